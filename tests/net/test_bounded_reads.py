"""Sockets of which one read brings a bounded part."""

import socket

from asyncsvc.net.bounded_reads import RECEIVE_BYTES, bounded_socket

UVLOOP_READ_BYTES = 256_000


def test_no_read_fills_what_the_event_loop_gives_it() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))
    with bounded_socket(address) as made:
        assert made.family is socket.AF_INET
        size = made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert RECEIVE_BYTES <= size < UVLOOP_READ_BYTES
