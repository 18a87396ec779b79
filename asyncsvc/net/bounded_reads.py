"""Sockets to servers of others, of which the event loop reads a bounded part at a time.

Owns the kernel's buffer of such a socket. Promises that a server which sends faster than the
service reads has one read in each round of the event loop.
"""

import socket

from aiohttp import AddrInfoType

RECEIVE_BYTES = 120 * 1024
"""Linux doubles it. libuv reads a socket up to 32 times in a row while each read fills the 256,000
bytes that uvloop gives it: four servers that sent without end made each round of the loop 70 ms
long. From a smaller buffer no read fills them. A server 200 ms away can still send a megabyte a
second on each connection."""


def bounded_socket(address: AddrInfoType) -> socket.socket:
    """A socket for `socket_factory` of aiohttp's connector."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return made
