"""Pages as text: what is read of HTML, charsets, and no page that takes long."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from asyncsvc.tools.pages import decoded, readable

HERE = URL("http://a.example/docs/")
MOST = 10_000


def read(page: str) -> str:
    return readable(page, HERE, MOST)


def test_a_page_becomes_lines_with_links() -> None:
    page = """<!doctype html><html><head><title>A &amp; B</title><style>p { color: red }</style>
    <script>if (a < b) document.write("</p>")</script></head><body><h2>Head</h2>
    <p>One
       two <b>three</b> <a class=x href="/y?a=1&amp;b=2">four</a>, <a href="tel:5">five</a>
    </p><ul><li>six<li>seven <a title="a > b" href='z'>eight</a></ul><pre>  kept
    so</pre>after<br>all<!-- <p>hidden --><svg><text>drawn</text></svg><p>it's 3 &lt; 4</p>"""
    assert read(page) == (
        "A & B\n\n## Head\n\nOne two three [four](http://a.example/y?a=1&b=2), five\n\n"
        "- six\n- seven [eight](http://a.example/docs/z)\n\n  kept\n    so\n\nafter\nall\n\n"
        "it's 3 < 4"
    )


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", ""),
        ("a < b <3 <> c", "a < b <3 <> c"),
        ("a<!-->b", "ab"),
        ("a<!-- never ended <p>b", "a"),
        ("a<p title='never ended>b", "a"),
        ("a<script>b", "a"),
        ("a<SCRIPT>b</ScRiPt >c", "ac"),
        ("<title>a <b> c</title>d", "a <b> c\n\nd"),
        ("a<p it's>b</p>c", "a\n\nb\n\nc"),
        ("&#99999999999999999999;&#x110000000;&nope;", "\ufffd\ufffd&nope;"),
        ('<a href="//b.example">x</a>', "[x](http://b.example)"),
        ('<a href="http://[">x</a><a href="#y">z</a>', "xz"),
        ("<a href=a>b<a href=c>d", "[b](http://a.example/docs/a)[d"),
        ("<a href=" + "x" * 600 + ">b</a>", "b"),
    ],
)
def test_odd_pages_are_read_as_far_as_they_go(page: str, text: str) -> None:
    assert read(page) == text


@given(st.text(alphabet="<>/!-='\"a p&#;hrefscript \n", max_size=60))
def test_every_text_is_a_page(page: str) -> None:
    assert isinstance(read(page), str)


PIECES = ["<a ", "<!--", "<!a", "</a", '<a b="', "<a =", "<a ='", "&", "&" + "a" * 31, "<li>", "<",
          "<script></", '<a href="href=', "<a href ", "&#1", "<a href=x>", "<title>", "<pre>x\n",
          "<meta ", "<a       "]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_no_page_takes_longer_than_its_length(piece: str) -> None:
    page = piece * (400_000 // len(piece))
    began = process_time()
    decoded(page.encode(), None, True)
    readable(page, HERE, 1 << 30)
    assert process_time() - began < 5  # a quadratic reader takes minutes


def test_a_link_that_is_longer_than_its_tag_fills_nothing() -> None:
    far = HERE / ("x" * 400) / "y"
    assert len(readable("<a href=z>b" * 100_000, far, MOST)) < MOST + 1000


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("é".encode(), None, "é"),
        ("é".encode("latin-1"), "iso-8859-1", "é"),
        (b"\x93a\x94", "iso-8859-1", "“a”"),
        ("你好".encode("gbk"), "gb2312", "你好"),
        ("你好".encode("gbk"), "utf-8", "\ufffd" * 3),
        ("é".encode("utf-16"), "ascii", "é"),
        (b"\xef\xbb\xbfa", "utf-16", "a"),
        ("<meta charset=gbk>你".encode("gbk"), None, "<meta charset=gbk>你"),
        ('<meta http-equiv=x content="text/html; charset=big5">你'.encode("big5"), None, "你"),
        ("<meta charset=utf-16>é".encode(), None, "é"),
        (b"a\x1b[31mb\x00c\r\n\t\xc2\x85d", None, "a[31mbc\n\td"),
        *((b"abc", name, "abc") for name in ("rot13", "zlib", "hex", "nope", "", "punycode", "idna",
                                             "unicode_escape", "utf-7", "undefined", "a\0b")),
    ],
)  # fmt: skip
def test_bytes_become_characters(data: bytes, charset: str | None, text: str) -> None:
    assert decoded(data, charset, True).endswith(text)
