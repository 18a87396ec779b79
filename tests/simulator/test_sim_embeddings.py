import base64
import struct

import orjson
import pytest

from asyncsvc.simulator import Running
from asyncsvc.simulator.answers import embed

from .rawhttp import fetch

PATH = "/v1/embeddings"


async def test_list_input_keeps_its_order(server: Running) -> None:
    texts = ["b", "a", "c"]
    answer = (await fetch(server.port, {"model": "e", "input": texts}, path=PATH)).json()
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert [tuple(item["embedding"]) for item in answer["data"]] == [embed(t, 64) for t in texts]
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


async def test_string_input_dimensions_and_base64(server: Running) -> None:
    payload = {"model": "e", "input": "hello", "dimensions": 8}
    answer = (await fetch(server.port, payload, path=PATH)).json()
    vector = answer["data"][0]["embedding"]
    assert len(vector) == 8
    packed = (await fetch(server.port, {**payload, "encoding_format": "base64"}, path=PATH)).json()
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert struct.unpack("<8f", raw) == pytest.approx(vector)


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        ({"model": "e"}, "input"),
        ({"model": "e", "input": []}, "input"),
        ({"model": "e", "input": ["a", 3]}, "input"),
        ({"model": "e", "input": "a", "dimensions": 0}, "dimensions"),
        ({"model": "e", "input": "a", "dimensions": True}, "dimensions"),
        ({"model": "e", "input": "a", "dimensions": 10**9}, "dimensions"),
        ({"input": "a"}, "model"),
    ],
)
async def test_what_cannot_be_used_is_a_400(
    server: Running, payload: dict[str, object], param: str
) -> None:
    raw = await fetch(server.port, payload, path=PATH)
    assert raw.status == 400
    assert raw.json()["error"]["param"] == param


async def test_faults_befall_embeddings_too(server: Running) -> None:
    for tag, status in (("429", 429), ("500", 500), ("410", 410)):
        raw = await fetch(server.port, {"model": "e", "input": f"[[sim:{tag}]]"}, path=PATH)
        assert raw.status == status
    cut = await fetch(server.port, {"model": "e", "input": "[[sim:cut]]"}, path=PATH)
    assert cut.terminated
    with pytest.raises(orjson.JSONDecodeError):
        cut.json()
    empty = await fetch(server.port, {"model": "e", "input": "[[sim:empty]]"}, path=PATH)
    assert empty.json()["data"] == []
