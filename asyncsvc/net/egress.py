"""Which addresses a client may make us call, and which not.

Owns the reading of a URL that came from outside and the tables of addresses that are not
public. Promises that what is refused is refused in every spelling (decimal, hexadecimal, mapped
or translated IPv6), and that only addresses it has admitted are named. Never resolves a name,
never connects: a caller that connects asks `admitted` for each resolution and uses nothing else.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

LONGEST = 2048
Address = IPv4Address | IPv6Address

_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)
_NUMBER = re.compile(r"(\d+|0x[0-9a-f]*)\Z")
_LOOPBACK = (ip_address("127.0.0.1"), ip_address("::1"))
"""What `localhost` means wherever it is asked (RFC 6761)."""

# From IANA's registries of special-purpose addresses; Python's own tables differ by version.
_REFUSED: tuple[tuple[IPv4Network | IPv6Network, str], ...] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "a relay of 6to4"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6 form"),
        ("::/96", "an IPv4 address in IPv6 form"),
        ("64:ff9b::/96", "an IPv4 address in IPv6 form"),
        ("64:ff9b:1::/48", "an IPv4 address in IPv6 form"),
        ("2001::/32", "Teredo, an IPv4 address in IPv6 form"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4, an IPv4 address in IPv6 form"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL = IPv6Network("2000::/3")
"""All that has been given out of IPv6 so far."""
_ISATAP = (0x00005EFE, 0x02005EFE)


class Refused(ValueError):
    """This URL or address must not be called; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be called as far as its text says; `literal` where its host is an address."""

    url: URL
    host: str
    port: int
    literal: Address | None


class Egress:
    """The rules, with the exceptions of the settings. ValueError names a bad exception. `setting`
    is where exceptions are made, for the messages."""

    def __init__(self, allow: Sequence[str] = (), setting: str = "webhooks.allow") -> None:
        self._setting = setting
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for rule in allow:
            self._except(rule)

    def _except(self, rule: str) -> None:
        text = rule.strip().lower().rstrip(".")
        try:
            self._networks.append(ip_network(text.strip("[]")))
        except ValueError as error:
            if not is_name(text):
                reason = (
                    str(error) if "host bits" in str(error) else "neither network nor host name"
                )
                raise ValueError(f"{rule!r}: {reason}") from None
            self._names.add(text)

    def target(self, text: str) -> Target:
        """The URL, read. Raises Refused, also for an address that is written in it."""
        url = read(text)
        host = (url.raw_host or "").lower()
        name = host.removesuffix(".")
        if ":" in host or _NUMBER.match(name.rpartition(".")[2]):
            address = _literal(host)
            self.check(address, host)
            return Target(url, host, url.port or 0, address)
        if not _NAME.match(name):
            raise Refused("its host is neither a name nor an address")
        if name == "localhost" or name.endswith(".localhost"):
            self.admitted(Target(url, name, 0, None), map(str, _LOOPBACK))
        return Target(url, name, url.port or 0, None)

    def admitted(self, target: Target, found: Iterable[str]) -> list[str]:
        """Of the addresses that its name has been resolved to, those that may be connected.
        Raises Refused where there are none."""
        good, reason = [], Refused(f"{target.host} has no address")
        for text in found:
            try:
                self.check(ip_address(text), target.host)
            except ValueError as error:
                reason = error if isinstance(error, Refused) else Refused(f"no address: {text}")
            else:
                good.append(text)
        try:
            if not good:
                raise reason
        finally:
            del reason  # else it would hold its own frame, and all that is above
        return good

    def check(self, address: Address, host: str) -> None:
        """Raises Refused unless the address may be called under this host's name."""
        if host in self._names or any(address in network for network in self._networks):
            return
        why = _fault(address)
        if why is not None:
            named = f"{host} leads to {address}, which" if str(address) != host else str(address)
            raise Refused(f"{named} is {why}; {self._setting} could permit it")


def is_name(text: str) -> bool:
    """Whether the text is the name of a host, in its ASCII form and in small letters."""
    return bool(_NAME.match(text)) and not _NUMBER.match(text.rpartition(".")[2])


def host_of(text: str) -> str:
    """The host of a URL that has passed `target`; for counting only."""
    return (URL(text).raw_host or "").lower().removesuffix(".")


def read(text: str, schemes: Sequence[str] = ("http", "https")) -> URL:
    """The URL. Raises Refused for what is none, and for one with a user name or a password; the
    message does not repeat the URL."""
    if len(text) > LONGEST:
        raise Refused(f"it is longer than {LONGEST} characters")
    if any(c <= " " or c in "\\\x7f" for c in text):
        raise Refused("it holds a space, a control character or a backslash")
    try:
        url = URL(text)
        port, host = url.explicit_port, url.raw_host
    except (ValueError, UnicodeError):
        raise Refused("it is not a URL") from None
    if url.scheme not in schemes:
        allowed = " or ".join(f"{scheme}://" for scheme in schemes)
        raise Refused(f"it must begin with {allowed}")
    # An empty one is dropped while reading, so the text itself is looked at, too.
    authority = re.split("[/?#]", text.partition("://")[2], maxsplit=1)[0]
    if "@" in authority or url.raw_user is not None or url.raw_password is not None:
        raise Refused("it must not hold a user name or a password")
    if not host or port == 0:
        raise Refused("it names no host" if not host else "its port must not be 0")
    return url


def _literal(host: str) -> Address:
    """The address that is written there in its one usual form."""
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is None or "%" in host or (address.version == 4 and str(address) != host):
        raise Refused("its host is a number that is no address in its usual form")
    return address


def _fault(address: Address) -> str | None:
    """Why an address is not public; None: it is."""
    for network, why in _REFUSED:
        if address.version == network.version and address in network:
            return why
    if isinstance(address, IPv6Address):
        if address not in _GLOBAL:
            return "reserved"
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return "ISATAP, an IPv4 address in IPv6 form"
    return None if address.is_global else "not public"
