"""Wrong tokens: how many one address may try.

Owns the failed attempts of the last minute, by the client's address. Promises that an address
with too many of them is told so without its token being looked at (whoever guesses must not
learn that a guess was right), this machine included, and that memory is bounded. Never knows a
token.

The price: whoever shares an address (a proxy, a machine's own users) shares its attempts, so
one can shut out the others for a minute. Requests without any token are no attempts.
"""

import asyncio
from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_address

from asyncsvc.errors import TooManyAttempts

WINDOW_S = 60.0
ADDRESSES_MOST = 4096
"""Addresses that are remembered; beyond, the one that has tried least lately is forgotten."""


class Attempts:
    """`check` before a token is looked at, `failed` after a wrong one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def check(self, address: str) -> None:
        """Raises TooManyAttempts."""
        if not self._failed:
            return
        times = self._failed.get(origin(address))
        if times is None or len(times) < self._most:
            return
        left = times[0] + WINDOW_S - asyncio.get_running_loop().time()
        if left > 0:
            raise TooManyAttempts(
                f"{self._most} wrong tokens came from this address within a minute",
                retry_after=left,
            )

    def failed(self, address: str) -> None:
        """One more wrong token."""
        key = origin(address)
        times = self._failed.setdefault(key, deque(maxlen=self._most))
        times.append(asyncio.get_running_loop().time())
        self._failed.move_to_end(key)
        if len(self._failed) > ADDRESSES_MOST:
            self._failed.popitem(last=False)


def origin(address: str) -> str:
    """Who an address belongs to: of IPv6 a customer has at least a /64 to choose from."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if not isinstance(known, IPv6Address):
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(IPv6Address(int(known) >> 64 << 64))
