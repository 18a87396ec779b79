"""The limits of a head, and of what surrounds a body."""

import pytest

from asyncsvc.errors import HeadTooLarge, InvalidHttp
from asyncsvc.web.http.heads import HEAD_BYTES, Framing, check


def test_a_head_that_comes_at_once_has_the_same_limit() -> None:
    fields = [(b"host", b"h"), (b"x", b"y" * HEAD_BYTES)]
    with pytest.raises(HeadTooLarge):
        check("1.1", b"/", fields)
    assert check("1.1", b"/", fields[:1]) == b"/"
    assert check("1.0", b"/?a=b", []) == b"/?a=b"


def test_the_framing_of_a_body_has_a_limit() -> None:
    framing = Framing()
    framing.part()
    for size in (1, Framing.OPEN_BYTES):
        framing.received(size, size)
    with pytest.raises(InvalidHttp):
        framing.received(1, Framing.OPEN_BYTES + 2)
    framing = Framing()
    framing.part(10)
    framing.received(Framing.SURROUNDING_BYTES, Framing.SURROUNDING_BYTES + 20)
    framing.part()
    with pytest.raises(InvalidHttp):
        framing.received(1, Framing.SURROUNDING_BYTES + 21)
