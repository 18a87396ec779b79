"""Hosts that may be called because a list of the settings names them, and no others.

Owns the reading of such a list and the check of a URL against it. Promises that a name never leads
to an address that is not public, unless the list names that address, too: who owns a name decides
what it means. `localhost` is the exception, as it can mean nothing else. Never resolves a name.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from yarl import URL

from asyncsvc.net.egress import Egress, Refused, Target, is_name, read

WEB_PORTS = (80, 443)
"""The ports of a rule that names none."""
_PARTS = re.compile(r"(\[[0-9a-f:.]+\]|(?:\*\.)?[^\s*:/@\\?#%\[\]]+|\*)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class _Rule:
    """`name` is a host, or `*` or `*.` and the end of one; `network` stands for addresses."""

    name: str
    network: IPv4Network | IPv6Network | None
    ports: tuple[int, ...]

    def names(self, target: Target) -> bool:
        """Whether the rule allows the host and port of a URL."""
        if target.port not in self.ports:
            return False
        if self.network is not None:
            return target.literal is not None and target.literal in self.network
        if self.name.startswith("*"):
            return target.host.endswith(self.name[1:])
        return target.host == self.name

    @property
    def exception(self) -> str | None:
        """What `Egress` may let through though it is not public."""
        if self.network is not None:
            return str(self.network)
        local = self.name == "localhost" or self.name.endswith(".localhost")
        return self.name if local and not self.name.startswith("*") else None


class AllowedHosts:
    """The hosts of a setting: `example.org`, `*.example.org` (what is below it), `*` (every public
    host), an address or a network, each with `:port` where it is neither 80 nor 443. ValueError
    names a bad one."""

    def __init__(self, rules: Sequence[str], setting: str) -> None:
        self._rules = [_rule(text) for text in rules]
        self._setting = setting
        self._shown = ", ".join(rules)

    def egress(self, port: int) -> Egress:
        """The rules for addresses, of a connection to this port."""
        open_ones = [rule.exception for rule in self._rules if port in rule.ports]
        return Egress([one for one in open_ones if one is not None], self._setting)

    def target(self, text: str) -> Target:
        """The URL, read. Raises Refused for one that the list does not allow."""
        target = self.egress(read(text).port or 0).target(text)
        if not any(rule.names(target) for rule in self._rules):
            where = target.host if target.port in WEB_PORTS else f"{target.host}:{target.port}"
            raise Refused(f"{where} is not in {self._setting}; allowed are {self._shown}")
        return target


def _rule(text: str) -> _Rule:
    rule = text.strip().lower()
    try:
        if "/" in rule:
            return _Rule("", ip_network(rule), WEB_PORTS)
        if rule.count(":") > 1 and not rule.startswith("["):
            rule = f"[{rule}]"
        if (parts := _PARTS.fullmatch(rule)) is None:
            raise ValueError("neither a host, an address nor a network")
        host, port = parts.groups()
        if port is not None and not 0 < int(port) < 65536:
            raise ValueError("there is no such port")
        ports = WEB_PORTS if port is None else (int(port),)
        return _of_host(host.rstrip("."), ports)
    except ValueError as fault:
        raise ValueError(f"{text!r}: {fault}") from None


def _of_host(host: str, ports: tuple[int, ...]) -> _Rule:
    if host == "*":
        return _Rule(host, None, ports)
    if host.startswith("["):
        return _Rule("", ip_network(host.strip("[]")), ports)
    wild = "*." if host.startswith("*.") else ""
    name = URL.build(scheme="http", host=host.removeprefix("*.")).raw_host or ""
    with suppress(ValueError):
        address = ip_network(name)
        if not wild:
            return _Rule("", address, ports)
    if not is_name(name):
        raise ValueError("neither a host, an address nor a network")
    return _Rule(wild + name, None, ports)
