"""fetch_url over real sockets: what it calls, what it refuses, and answers that mean harm."""

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from pydantic import ValidationError

from asyncsvc.config.settings import Tools
from asyncsvc.net.pinned import Lookup
from asyncsvc.tools.fetch import FetchUrl, fetch_tools
from asyncsvc.tools.registry import Toolbox, Workspaces
from asyncsvc.tools.tool import Effects, Result, Surroundings
from asyncsvc.tools.workspace import Workspace
from tests.hooks import Reply, Writer, flood, hang_up, nonsense, silence, slow_body, status

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"
MOST = 10_000
LIMIT_S = 20.0


@dataclass
class Site:
    """A server that answers with `replies` in order, the last one for ever."""

    replies: Sequence[Reply]
    heads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/page"

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            with suppress(OSError, EOFError):
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                await self.replies[min(len(self.heads), len(self.replies)) - 1](writer)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def site(
    *replies: Reply, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Site]:
    found = Site(replies)
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: Writer) -> None:
        tasks.add(asyncio.create_task(found.serve(reader, writer)))

    server = await asyncio.start_server(begin, host, 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def page(body: bytes, kind: str | None = "text/plain", *headers: str) -> Reply:
    return status(200, *([f"content-type: {kind}"] if kind else []), *headers, body=body)


def moved(where: str, code: int = 302) -> Reply:
    return status(code, f"location: {where}")


async def unasked(host: str, port: int) -> list[str]:
    raise AssertionError("no name may be looked up")


def names(*answers: Sequence[str]) -> Lookup:
    """A name server that answers each question differently."""
    left = list(answers)

    async def lookup(host: str, port: int) -> list[str]:
        return list(left.pop(0))

    return lookup


class Fetcher:
    """The tool with a list of allowed hosts."""

    def __init__(
        self, folder: Path, rules: Sequence[str], lookup: Lookup, timeout_s: float
    ) -> None:
        settings = Tools(fetch_allow=list(rules), timeout_s=timeout_s)
        self.tool = FetchUrl(settings, lookup)
        self._box = Toolbox([self.tool], Workspaces(folder))
        self._around = Surroundings(Workspace(folder), None, MOST, lambda _: None)

    async def __call__(self, url: str) -> Result:
        async with asyncio.timeout(60):
            given = self._box.given(self.tool, {"url": url})
            return await self._box.run(self.tool, given, self._around)


Allow = Callable[..., Fetcher]


@pytest.fixture
def allow(tmp_path: Path) -> Allow:
    def make(*rules: str, lookup: Lookup = unasked, timeout_s: float = LIMIT_S) -> Fetcher:
        return Fetcher(tmp_path, rules, lookup, timeout_s)

    return make


async def test_a_page_is_read_with_its_status_and_address(allow: Allow) -> None:
    html = b"<title>T</title><p>caf\xc3\xa9 <a href='/next'>on</a>"
    async with site(page(html, "text/html; charset=utf-8")) as there:
        result = await allow(f"127.0.0.1:{there.port}")(there.url + "?q=a%20b#part")
    url = f"{there.url}?q=a%20b#part"
    text = f"200 OK {url}\n\nT\n\ncafé [on](http://127.0.0.1:{there.port}/next)"
    assert result == Result(True, text)
    (head,) = there.heads
    assert head.startswith("GET /page?q=a%20b HTTP/1.1\r\n")
    sent = {line.partition(":")[0].lower() for line in head.strip().split("\r\n")[1:]}
    assert sent == {"host", "accept", "accept-encoding", "user-agent", "connection"}


async def test_what_a_server_refuses_is_read_but_not_ok(allow: Allow) -> None:
    async with site(status(404, "content-type: text/plain", body=b"no such page")) as there:
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert (result.ok, result.exit_code) == (False, 1)
    assert result.output == f"404 Not Found {there.url}\n\nno such page"


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        (b"\x89PNG\r\n", "image/png", "[image/png, 6 bytes: not text]"),
        (b"a\x00b", "text/plain", "[text/plain, 3 bytes: not text]"),
        (b"a\x00b", None, "[application/octet-stream, 3 bytes: not text]"),
        (b"plain", None, "plain"),
        ('{"a": "é"}'.encode(), "application/ld+json", '{"a": "é"}'),
        ("é".encode("latin-1"), "text/plain; charset=latin1", "é"),
        ("é".encode(), "text/plain; charset=rot13", "é"),
        (b"a\x1b]0;title\x07b", "text/plain", "a]0;titleb"),
        (b"", "text/html", ""),
        (b"x", "text/\x01", "x"),
    ],
)
async def test_what_a_body_holds_decides_what_is_shown(
    allow: Allow, body: bytes, kind: str | None, shown: str
) -> None:
    async with site(page(body, kind)) as there:
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert result.output.partition("\n\n")[2] == shown, result.output


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"packed text", mtime=0)),
        ("gzip", gzip.compress(b"packed ", mtime=0) + gzip.compress(b"text", mtime=0) + b"\0" * 20),
        ("deflate", zlib.compress(b"packed text")),
        ("deflate", zlib.compress(b"packed text", wbits=-zlib.MAX_WBITS)),
    ],
)
async def test_packed_bodies_are_unpacked(allow: Allow, encoding: str, body: bytes) -> None:
    async with site(page(body, "text/plain", f"content-encoding: {encoding}")) as there:
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert result == Result(True, f"200 OK {there.url}\n\npacked text")


async def test_a_body_that_is_not_as_packed_as_it_says_is_a_fault(allow: Allow) -> None:
    for encoding, body in (("gzip", b"no gzip at all"), ("deflate", b"\xff" * 9)):
        async with site(page(body, "text/plain", f"content-encoding: {encoding}")) as there:
            result = await allow(f"127.0.0.1:{there.port}")(there.url)
        assert not result.ok
        assert f"its body is not {encoding}" in result.output
    for encoding in ("br", "gzip, gzip", "zstd"):
        async with site(page(b"x", "text/plain", f"content-encoding: {encoding}")) as there:
            result = await allow(f"127.0.0.1:{there.port}")(there.url)
        assert result.output.endswith(f"[text/plain, packed as '{encoding}', 1 bytes: not text]")


@cache
def gigabyte() -> tuple[bytes, bytes]:
    """The packed beginning of a page, and a block that goes on with 64 MB each time."""
    engine = zlib.compressobj(9, wbits=31)
    head = engine.compress(b"<p>" + b"a" * 1_000_000)
    block = b"".join(engine.compress(b"a" * (1 << 20)) for _ in range(64))
    return head, block + engine.flush(zlib.Z_FULL_FLUSH)


def bomb(kind: str) -> Reply:
    """A gigabyte in one megabyte."""

    async def reply(writer: Writer) -> None:
        lines = ["HTTP/1.1 200 x", f"content-type: {kind}", "content-encoding: gzip", "", ""]
        head, block = gigabyte()
        writer.write("\r\n".join(lines).encode() + head)
        for _ in range(16):
            writer.write(block)
            await writer.drain()

    return reply


async def no_members(writer: Writer) -> None:
    """Packed nothing, without end."""
    writer.write(b"HTTP/1.1 200 x\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\n\r\n")
    while True:
        writer.write(gzip.compress(b"") * 1000)
        await writer.drain()


async def endless_head(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 x\r\n")
    while True:
        writer.write(b"x: y\r\n" * 1000)
        await writer.drain()


async def informed(writer: Writer) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 x\r\nlink: </a>\r\n\r\n")
        await writer.drain()


async def drip(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 x\r\ncontent-type: text/plain\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("reply", [bomb("text/plain"), bomb("text/html"), flood])
async def test_much_is_cut(allow: Allow, reply: Reply) -> None:
    async with site(reply) as there:
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert result.ok
    assert result.truncated
    assert len(result.output.encode()) == MOST


@pytest.mark.parametrize("reply", [no_members, endless_head])
async def test_nothing_without_end_ends(allow: Allow, reply: Reply) -> None:
    async with site(reply) as there:
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert not result.ok or result.output.endswith("\n\n")


@pytest.mark.parametrize("reply", [silence, slow_body, drip, informed])
async def test_what_takes_too_long_is_given_up(allow: Allow, reply: Reply) -> None:
    async with site(reply) as there:
        result = await allow(f"127.0.0.1:{there.port}", timeout_s=0.5)(there.url)
    late = "not read within 0.5 s"
    # A fast machine reads more interim answers than are allowed before the time is over.
    many = "no answer: more than 256 interim answers came before the response"
    assert result.output == late or (reply is informed and result.output == many)
    assert result == Result(False, result.output, 1)


@pytest.mark.parametrize("reply", [hang_up, nonsense, status(200, "content-length: 5", body=b"a")])
async def test_a_broken_answer_is_a_text_for_the_model(allow: Allow, reply: Reply) -> None:
    async with site(reply) as there:
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert not result.ok
    assert result.output.startswith("no answer: ")
    closed = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert "no answer: Cannot connect" in closed.output


async def test_redirects_are_followed_five_times(allow: Allow) -> None:
    async with site(page(b"")) as there:
        here = f"http://127.0.0.1:{there.port}"
        there.replies = [
            moved("/b"),
            moved("c?d=1", 301),
            moved(f"//127.0.0.1:{there.port}/e", 307),
            moved("#f", 308),
            moved(f"{here}/g", 303),
            page(b"here"),
        ]
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
        assert result == Result(True, f"200 OK {here}/g\n\nhere")
        asked = [head.split()[1] for head in there.heads]
        assert asked == ["/page", "/b", "/c?d=1", "/e", "/e", "/g"]
        there.replies = [moved("/again")]
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
        assert result.output == "refused: more than 5 redirects"


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254 is link-local"),
        ("http://127.0.0.1:1/", "127.0.0.1 is loopback"),
        ("http://[::ffff:127.0.0.1]:{port}/", "an IPv4 address in IPv6 form"),
        ("http://2130706433:{port}/", "no address in its usual form"),
        ("http://a.example/", "a.example is not in tools.fetch_allow"),
        ("file:///etc/passwd", "must begin with http"),
        ("gopher://127.0.0.1:{port}/", "must begin with http"),
        ("http://user:key@127.0.0.1:{port}/", "user name or a password"),
        ("//a@127.0.0.1:{port}/", "user name or a password"),
        ("http://[", "not a URL"),
        ("http:// a/", "holds a space"),
        ("http://\xff\xfe/", ""),
        ("http://" + "a" * 3000, "longer than"),
    ],
)
async def test_a_redirect_is_checked_like_the_first_url(allow: Allow, where: str, why: str) -> None:
    async with site(page(b"")) as there:
        there.replies = [moved(where.replace("{port}", str(there.port)))]
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
        assert not result.ok
        assert why in result.output
        assert len(there.heads) == 1


OTHERS = [
    "http://127.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::]:{port}/",
    "http://localhost:{port}/",
    "http://x.localhost:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://good.example@127.0.0.2:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@good.example/",
    "http://good.example\\.127.0.0.1:{port}/",
    "http://good.example%00.127.0.0.1:{port}/",
    "http://good.example:{port}/",
    "http://good.example.evil.example/",
    "http://evilgood.example/",
    "http://sub.good.example/",
    "http://gооd.example/",
    "https:127.0.0.1:{port}",
    "127.0.0.1:{port}",
    "http:///127.0.0.1:{port}/",
    "http://\t127.0.0.1:{port}/",
    "ftp://good.example/",
    "http://good.example:0/",
    "http://good.example:99999/",
]


@pytest.mark.parametrize("url", OTHERS)
async def test_no_spelling_leads_to_what_is_not_allowed(allow: Allow, url: str) -> None:
    async with site(page(b"secret")) as there:
        result = await allow("good.example")(url.replace("{port}", str(there.port)))
        assert not result.ok
        assert result.output.startswith("refused: "), result.output
        assert there.heads == []


async def test_a_name_is_looked_up_once_and_what_was_checked_is_connected(allow: Allow) -> None:
    async with site(page(b"here")) as there:
        rules = (f"good.example:{there.port}", f"127.0.0.1:{there.port}")
        url = f"http://Good.Example.:{there.port}/a"
        fetch = allow(*rules, lookup=names(["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1", "127.0.0.1"]))
        assert (await fetch(url)).output.endswith("here")
        assert f"\r\nHost: good.example:{there.port}\r\n" in there.heads[0]
        rebound = await fetch(url)
        assert "good.example leads to 10.0.0.1, which is private" in rebound.output
        assert (await fetch(url)).output.endswith("here")
        assert len(there.heads) == 2


async def test_a_name_leads_inside_only_where_the_address_is_listed(allow: Allow) -> None:
    async with site(page(b"here")) as there:
        port, inside = there.port, ["127.0.0.1"]
        url = f"http://wiki.example:{port}/"
        for rules in (
            [f"wiki.example:{port}"],
            [f"*.example:{port}"],
            [f"*:{port}"],
            [f"wiki.example:{port}", "127.0.0.1"],
            [f"wiki.example:{port}", "127.0.0.1:1"],
            [f"wiki.example:{port}", f"localhost:{port}"],
        ):
            refused = await allow(*rules, lookup=names(inside))(url)
            assert "wiki.example leads to 127.0.0.1, which is loopback" in refused.output
        for rules in (
            [f"wiki.example:{port}", f"127.0.0.1:{port}"],
            [f"*.example:{port}", f"127.0.0.1:{port}"],
            [f"*:{port}", f"127.0.0.1:{port}"],
        ):
            assert (await allow(*rules, lookup=names(inside))(url)).ok


async def test_a_certificate_is_checked_for_the_name_of_the_url(allow: Allow) -> None:
    asked: list[str | None] = []
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATES / "first.pem", CERTIFICATES / "first.key")
    tls.sni_callback = lambda _, name, __: asked.append(name)
    async with site(page(b"here"), tls=tls) as there:
        rules = (f"good.example:{there.port}", f"127.0.0.1:{there.port}")
        fetch = allow(*rules, lookup=names(["127.0.0.1"]))
        result = await fetch(f"https://good.example.:{there.port}/")
        assert not result.ok
        assert "certificate verify failed" in result.output.lower()
    assert asked == ["good.example"]
    assert there.heads == []


async def test_localhost_is_its_own_name(allow: Allow) -> None:
    async with site(page(b"here")) as there:
        url = f"http://localhost:{there.port}/"
        assert (await allow(f"localhost:{there.port}", lookup=names(["127.0.0.1"]))(url)).ok
        refused = await allow(f"*:{there.port}", f"*.localhost:{there.port}")(url)
        assert "loopback" in refused.output


async def test_an_address_of_ipv6_is_called_where_it_is_listed(allow: Allow) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with site(page(b"here"), host="::1") as there:
        for rule in (f"[::1]:{there.port}", f"[0::1]:{there.port}"):
            assert (await allow(rule)(f"http://[::1]:{there.port}/")).ok
        refused = await allow(f"127.0.0.1:{there.port}")(f"http://[::1]:{there.port}/")
        assert "::1 is loopback" in refused.output


async def test_names_outside_ascii_are_compared_in_their_ascii_form(allow: Allow) -> None:
    async with site(page(b"here")) as there:
        rules = (f"bücher.example:{there.port}", f"127.0.0.1:{there.port}")
        for host in ("bücher.example", "BÜCHER.example", "xn--bcher-kva.example"):
            fetch = allow(*rules, lookup=names(["127.0.0.1"]))
            assert (await fetch(f"http://{host}:{there.port}/")).ok, host


async def test_a_name_that_does_not_resolve_is_a_fault(allow: Allow) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    result = await allow("good.example", lookup=lookup)("https://good.example/")
    assert result.output == "its name cannot be resolved: Name or service not known"
    none = await allow("good.example", lookup=names([]))("https://good.example/")
    assert none.output == "refused: good.example has no address"


async def test_no_proxy_and_no_key_of_the_environment_is_used(
    allow: Allow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with site(page(b"here")) as there, site(page(b"proxy")) as proxy:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        result = await allow(f"127.0.0.1:{there.port}")(there.url)
    assert result.output.endswith("here")
    assert "authorization" not in there.heads[0].lower()
    assert proxy.heads == []


async def test_the_tool_is_there_only_where_hosts_are_allowed() -> None:
    assert fetch_tools(Tools()) == []
    (tool,) = fetch_tools(Tools(fetch_allow=["docs.example", "*.example.org"]))
    assert (tool.name, tool.effects, tool.reads_only) == ("fetch_url", Effects.OUTSIDE, False)
    assert "docs.example, *.example.org" in tool.description
    await tool.close()


@pytest.mark.parametrize(
    "rule",
    ["", "*x", "a*b", "http://a", "a@b", "1.2.3", "0x7f.1", "*.1.2.3.4", "a:0", "a:99999", "a b",
     "10.0.0.1/8", "[::1", "-", "a%b", "*.*.a", "..", "a..b", "[::1%lo]:80", "2130706433", "a:b",
     "10.0.0.0/8:80", "a/b", "é" * 70],
)  # fmt: skip
def test_a_host_that_is_none_is_refused_by_the_settings(rule: str) -> None:
    with pytest.raises(ValidationError, match="fetch_allow"):
        Tools(fetch_allow=["example.org", rule])
