"""Which addresses a client may make us call."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncsvc.net.egress import LONGEST, Egress, Refused, Target, host_of

PUBLIC = Egress()
INSIDE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
INSIDE_6 = [
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001:0:4136:e378::",
    "2001:2::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:7f00:1",
]
OUTSIDE = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.32.0.1", "223.255.255.255"]
OUTSIDE_6 = ["2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]


def refusal(url: str, egress: Egress = PUBLIC) -> str:
    with pytest.raises(Refused) as caught:
        egress.target(url)
    return str(caught.value)


def named(name: str = "hooks.example") -> Target:
    return PUBLIC.target(f"http://{name}/")


@pytest.mark.parametrize("address", INSIDE + INSIDE_6)
def test_what_is_not_public_is_refused_as_text_and_as_what_a_name_means(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    assert "webhooks.allow" in refusal(f"http://{literal}:8080/x")
    with pytest.raises(Refused, match=r"^hooks\.example leads to .* is "):
        PUBLIC.admitted(named(), [address])


@pytest.mark.parametrize("address", OUTSIDE + OUTSIDE_6)
def test_what_is_public_is_admitted(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    target = PUBLIC.target(f"https://{literal}/")
    assert (target.literal, target.port) == (ip_address(address), 443)
    assert PUBLIC.admitted(named(), [address]) == [address]


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "0",
        "017700000001",
        "8.8.8.08",
        "134744072",
        "8.8.8.8.",
        "1.1",
        "256.256.256.256",
        "1.2.3.4.5",
        "example.0x",
        "[fe80::1%25eth0]",
        "0x",
    ],
)
def test_numbers_in_unusual_forms_are_refused(host: str) -> None:
    assert "usual form" in refusal(f"http://{host}/")


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1"])
def test_letters_that_mean_digits_are_read_as_digits(host: str) -> None:
    assert refusal(f"http://{host}/").startswith("127.0.0.1 is loopback")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "http://"),
        ("//example.com/", "http://"),
        ("", "http://"),
        ("file:///etc/passwd", "http://"),
        ("http:/example.com", "no host"),
        ("http:///example.com", "no host"),
        ("http://user@example.com/", "user name"),
        ("http://user:word@example.com/", "user name"),
        ("http://:word@example.com/", "user name"),
        ("http://@example.com/", "user name"),
        ("http://@example.com?x", "user name"),
        ("http://example.com:0/", "port"),
        ("http://example.com:65536/", "not a URL"),
        ("http://example.com:x/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://。/", "not a URL"),
        ("http://exa mple.com/", "space"),
        ("http://example.com\t/", "control"),
        ("http://example.com\\@evil.example/", "backslash"),
        ("http://h%2eexample/", "neither"),
        ("http://-x.example/", "neither"),
        ("http://a..example/", "neither"),
        (f"http://{'a' * 64}.example/", "neither"),
        (f"http://example.com/{'x' * LONGEST}", "longer"),
        ("http://localhost/", "localhost leads to"),
        ("http://LOCALHOST./", "localhost leads to"),
        ("http://x.localhost/", "localhost leads to"),
    ],
)
def test_a_url_is_refused_in_words(url: str, why: str) -> None:
    assert why in refusal(url)


def test_a_good_url_is_kept_as_it_is() -> None:
    target = PUBLIC.target("HTTP://Example.COM.:8080/a%20b?q=1@2#f")
    assert (target.host, target.port, target.literal) == ("example.com", 8080, None)
    assert str(target.url) == "http://example.com.:8080/a%20b?q=1@2#f"
    assert host_of("HTTP://Example.COM.:8080/a") == "example.com"
    assert PUBLIC.target("http://münchen.example").host == "xn--mnchen-3ya.example"


def test_exceptions_are_networks_and_names() -> None:
    egress = Egress(["127.0.0.1/32", "10.0.0.0/8", "fd00::/8", "Hooks.Internal."])
    for url in ("http://127.0.0.1:1/", "http://10.9.9.9/", "http://[fd00::1]/", "http://localhost"):
        egress.target(url)
    refusal("http://127.0.0.2/", egress)
    refusal("http://[::ffff:127.0.0.1]/", egress)
    refusal("http://[::1]/", egress)
    assert egress.admitted(egress.target("http://hooks.internal/"), ["127.0.0.9"]) == ["127.0.0.9"]
    with pytest.raises(Refused):
        egress.admitted(egress.target("http://other.internal/"), ["127.0.0.9"])
    Egress(["localhost"]).target("http://localhost/")


def test_of_several_addresses_only_the_good_ones_are_admitted() -> None:
    assert PUBLIC.admitted(named(), ["10.0.0.1", "8.8.8.8", "::1"]) == ["8.8.8.8"]
    with pytest.raises(Refused, match="has no address"):
        PUBLIC.admitted(named(), [])
    with pytest.raises(Refused, match="no address: nonsense"):
        PUBLIC.admitted(named(), ["nonsense"])
    with pytest.raises(Refused, match="link-local"):
        PUBLIC.admitted(named(), ["fe80::1%lo"])


@pytest.mark.parametrize("rule", ["10.0.0.1/8", "127.1", "a b", "", "http://x", "0x7f", "-x"])
def test_a_bad_exception_is_named(rule: str) -> None:
    with pytest.raises(ValueError, match=r"host bits|neither"):
        Egress([rule])


@given(st.text(max_size=60) | st.text(max_size=40).map("http://{}".format))
@example("http://[")
@example("http://\ud800/")
def test_any_text_is_a_target_or_refused(text: str) -> None:
    try:
        target = PUBLIC.target(text)
    except Refused:
        return
    assert target.host
    assert target.url.scheme in ("http", "https")


@given(st.ip_addresses(v=4))
def test_no_spelling_leads_inside(address: IPv4Address) -> None:
    number = int(address)
    spellings = [str(number), hex(number), f"0{number:o}", f"{number >> 24}.{number & 0xFFFFFF}"]
    for host in spellings:
        assert socket.inet_aton(host) == address.packed  # the system would take it
        refusal(f"http://{host}/")
    for text in (
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"::{address}",
        str(IPv6Address((0x2002 << 112) | (number << 80))),
        str(IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF))),
    ):
        refusal(f"http://[{text}]/")


@given(st.ip_addresses())
def test_a_literal_is_taken_only_where_it_is_public(address: IPv4Address | IPv6Address) -> None:
    literal = f"[{address}]" if address.version == 6 else str(address)
    try:
        target = PUBLIC.target(f"http://{literal}/")
    except Refused:
        return
    assert target.literal == address
    assert address.is_global
    assert not address.is_multicast
