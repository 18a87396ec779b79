"""The web page's files: who is given HTML at `/`, versions, ETags, compression, no other path."""

import gzip
import re
from pathlib import Path

import pytest

from asyncsvc.web.http.static_files import TYPES, File, load
from asyncsvc.web.page.routes import FOLDER, PREFIX
from tests.web.serving import Service, expect, refused
from tests.web.wire import head, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (BROWSER, "text/html"),
        ("TEXT/HTML", "text/html"),
        ("text/html, application/json;q=0.9", "text/html"),
        ("application/json", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/html;q=0, */*", "application/json"),
        ("text/html;q=high", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "application/json"),
        ("", "application/json"),
    ],
)
async def test_a_browser_is_given_the_page_and_others_the_status(
    service: Service, accept: str, media: str
) -> None:
    answer = await service.http.get("/", headers={"accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == media
    assert "Accept" in answer.headers["vary"]
    if media == "application/json":
        assert expect(answer, 200)["name"] == "asyncsvc"
    else:
        assert answer.text.startswith("<!doctype html>")


async def test_the_page_may_load_its_own_scripts_and_nothing_else(service: Service) -> None:
    answer = await service.http.get("/", headers={"accept": BROWSER})
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    text = re.sub(r"<script[^>]*src=[^>]*></script>", "", answer.text)
    assert not re.search(r"<script|<style|style=|\son\w+=", text), "the policy refuses inline code"


async def test_each_file_has_its_type_and_the_addresses_of_the_page_never_change(
    service: Service,
) -> None:
    found = load(FOLDER, PREFIX)
    assert found.by_path.keys() >= {"index.html"}
    for name, file in found.by_path.items():
        answer = await service.http.get(f"/page/{found.version}/{name}")
        assert answer.status_code == 200
        assert answer.content == file.content
        assert answer.headers["content-type"] == TYPES[Path(name).suffix]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        plain = await service.http.get(f"/page/{name}")
        assert plain.content == file.content
        assert plain.headers["cache-control"] == "no-cache"
    index = (await service.http.get("/", headers={"accept": BROWSER})).text
    for address in re.findall(r'(?:src|href)="(/page/[^"]+)"', index):
        assert address.startswith(f"/page/{found.version}/")
        assert (await service.http.get(address)).status_code == 200


async def test_a_file_is_compressed_for_those_who_take_it(service: Service) -> None:
    content = load(FOLDER, PREFIX).by_path["index.html"].content
    async with wire(service.port) as line:
        packed = await line.ask(head("GET", "/page/index.html", "accept-encoding: br, gzip"))
        plain = await line.ask(head("GET", "/page/index.html"))
        refusing = await line.ask(head("GET", "/page/index.html", "accept-encoding: gzip;q=0"))
        known = packed.headers["etag"]
        again = await line.ask(
            head(
                "GET", "/page/index.html", "accept-encoding: gzip", f'if-none-match: "x", W/{known}'
            )
        )
        other = await line.ask(head("GET", "/page/index.html", f"if-none-match: {known}"))
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body == refusing.body == content
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert known != plain.headers["etag"] == refusing.headers["etag"]
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", known)
    assert other.status == 200, "the compressed form is another one"


async def test_head_has_the_headers_of_get(service: Service) -> None:
    for path in ("/", "/page/index.html"):
        headers = {"accept": BROWSER}
        got = await service.http.get(path, headers=headers)
        asked = await service.http.head(path, headers=headers)
        assert asked.content == b""
        for name in ("etag", "content-type", "content-length", "cache-control", "vary"):
            assert asked.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    "path",
    [
        "", "nothing.js", "../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "static/index.html",
        "/etc/passwd", "//etc/passwd", "index.html/", "./index.html", "index.html%00", "index.htm",
        "0000000000000000/index.html", "%ff", "..\\files.py",
    ],
)  # fmt: skip
async def test_no_other_path_is_served(service: Service, path: str) -> None:
    async with wire(service.port) as line:
        answer = await line.ask(head("GET", f"/page/{path}"))
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")


async def test_other_methods_are_refused(service: Service) -> None:
    answer = await service.http.post("/page/index.html")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_another_content_is_another_version(tmp_path: Path) -> None:
    versions = set()
    for index, more in [(b"1", b"1"), (b"2", b"1"), (b"1", b"2"), (b"11", b"")]:
        (tmp_path / "index.html").write_bytes(b'<script src="/page/a/b.js">' + index)
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a/b.js").write_bytes(more)
        (tmp_path / "a/b.secret").write_bytes(b"never served")
        found = load(tmp_path, PREFIX)
        versions.add(found.version)
        assert found.by_path.keys() == {"index.html", "a/b.js"}
        assert f'"/page/{found.version}/a/b.js"'.encode() in found.index.content
    assert len(versions) == 4


async def test_what_compressing_makes_no_smaller_is_sent_as_it_is() -> None:
    assert File(".js", b"1").compressed is None
    assert File(".woff2", bytes(1000)).compressed is None


async def test_every_file_of_the_folder_can_be_served_or_is_known_not_to_be() -> None:
    kinds = {path.suffix for path in FOLDER.rglob("*") if path.is_file()}
    assert kinds <= TYPES.keys() | {".json"}, "a file that a browser cannot be given"
