"""Inflating within a limit, and the names of encodings."""

import gzip

import pytest

from asyncsvc.errors import InvalidJson, UnsupportedEncoding
from asyncsvc.web.http.body import Inflater, coding


def test_an_inflater_gives_no_more_than_it_is_asked_for() -> None:
    body = Inflater(gzip.compress(b"a" * 1000) + gzip.compress(b"b" * 10), "gzip")
    first = body.more(600)
    assert (len(first), body.ended) == (600, False)
    rest = body.more(600)
    assert (first + rest, body.ended) == (b"a" * 1000 + b"b" * 10, True)


def test_what_ends_too_soon_is_broken() -> None:
    for data in (b"", gzip.compress(b"x" * 100)[:20]):
        with pytest.raises(InvalidJson, match="cut off"):
            Inflater(data, "gzip").more(1000)


def test_encodings_by_name() -> None:
    assert (coding([]), coding([""]), coding(["identity"])) == (None, None, None)
    assert (coding(["X-GZIP"]), coding(["identity", "deflate"])) == ("gzip", "deflate")
    with pytest.raises(UnsupportedEncoding):
        coding(["gzip", "deflate"])
