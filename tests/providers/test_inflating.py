import gzip
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest

from asyncsvc.errors import UpstreamInvalid
from asyncsvc.providers.connections import PIECE_BYTES, inflaters

TEXT = '{"a": "你好🌍"}'.encode() * 40_000
MB = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def inflated(header: str, parts: Iterable[bytes]) -> list[bytes]:
    layers = inflaters(header)
    found: list[bytes] = []
    for part in parts:
        pieces = [part]
        for layer in layers:
            pieces = [piece for each in pieces for piece in layer.feed(each)]
        found += pieces
    return [*found, *(layer.end() for layer in layers)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("header", "packed"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:])),
        ("gzip", gzip.compress(TEXT) + b"\0" * 20),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("gzip, deflate", zlib.compress(gzip.compress(TEXT))),
        ("identity, gzip", gzip.compress(TEXT)),
    ],
    ids=["gzip", "x-gzip", "members", "padded", "deflate", "bare", "two layers", "identity"],
)
def test_what_was_compressed_comes_back_wherever_it_is_cut(
    header: str, packed: bytes, size: int
) -> None:
    assert b"".join(inflated(header, cut(packed, size))) == TEXT


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 1}', b"data: x\n\n"])
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_called_gzip_and_is_none_passes(text: bytes, size: int) -> None:
    assert b"".join(inflated("gzip", cut(text, size))) == text


@pytest.mark.parametrize("header", ["", "identity", " , "])
def test_what_is_not_compressed_has_no_layer(header: str) -> None:
    assert inflaters(header) == []


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, br", "compress"])
def test_an_encoding_that_was_not_asked_for_is_named(header: str) -> None:
    with pytest.raises(UpstreamInvalid, match="not asked for"):
        inflaters(header)


@pytest.mark.parametrize("header", ["gzip", "deflate"])
def test_what_is_broken_inside_is_an_error(header: str) -> None:
    packed = bytearray(gzip.compress(TEXT) if header == "gzip" else zlib.compress(TEXT))
    packed[20:40] = b"\xff" * 20
    with pytest.raises(UpstreamInvalid, match="is not the"):
        inflated(header, [bytes(packed)])


@pytest.mark.parametrize("data", [b" " * (200 * MB), b"\n\n" * (50 * MB)], ids=["one", "many"])
def test_few_bytes_that_stand_for_many_come_in_pieces(data: bytes) -> None:
    packed = gzip.compress(data, 1)
    (layer,) = inflaters("gzip")
    count = 0
    tracemalloc.start()
    try:
        for part in cut(packed, 16 * 1024):
            for piece in layer.feed(part):
                assert len(piece) <= PIECE_BYTES
                count += len(piece)
        assert tracemalloc.get_traced_memory()[1] < 4 * MB
    finally:
        tracemalloc.stop()
    assert count == len(data)
