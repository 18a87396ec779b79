"""Bodies of every kind: too large, broken, strange."""

import asyncio
import gzip
import json
import logging
from pathlib import Path

import orjson
import pytest
from starlette.types import Message, Receive

from asyncsvc.errors import InvalidJson, InvalidRequest, TaskTooLarge
from asyncsvc.large_work import LargeWork
from asyncsvc.web.http import body
from asyncsvc.web.http import body_memory as bodies
from asyncsvc.web.http.body import Body, as_object
from asyncsvc.web.http.body_memory import Bodies
from tests.web.serving import Service, ask, expect, refused, reply, serving
from tests.web.wire import chunked, head, post, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST = 10_485_760


def sized(size: int) -> bytes:
    """A task's body of so many bytes."""
    frame = b'{"content":"","delay_s":3600}'
    return frame.replace(b'""', b'"' + b"x" * (size - len(frame)) + b'"')


async def total(service: Service) -> int:
    return int(expect(await service.http.get("/tasks/stats"), 200)["total"])


async def test_ten_megabytes_are_taken_and_given_back(service: Service) -> None:
    async with wire(service.port) as line:
        for request in (post("/tasks", sized(MOST)), chunked("/tasks", sized(MOST))):
            answer = await line.ask(request)
            assert answer.status == 202
            task = await service.task(answer.json()["task_id"])
            assert len(task["content"]) == MOST - len(sized(0)) + 0


async def test_a_byte_more_is_a_413_and_the_connection_stays_usable(fresh: Service) -> None:
    for request in (post("/tasks", sized(MOST + 1)), chunked("/tasks", sized(MOST + 1))):
        async with wire(fresh.port) as line:
            answer = await line.ask(request)
            assert (answer.status, answer.code()) == (413, "task_too_large")
            assert (await line.ask(head("GET", "/livez"))).status == 200
    for path in ("/tasks", "/tasks/batch"):
        answer413 = await fresh.http.post(path, content=sized(MOST + 1))
        refused(answer413, 413, "task_too_large")
    assert await total(fresh) == 0


async def test_many_small_values_are_a_413_on_every_way_in(fresh: Service) -> None:
    objects = b",".join([b'{"a":1}'] * 1_250_000)
    for name, path, sent in (
        ("metadata", "/tasks", b'{"content": "x", "metadata": {"k": [%s]}}' % objects),
        ("messages", "/tasks", b'{"messages": [%s]}' % objects),
        ("batch", "/tasks/batch", b'{"tasks": [%s]}' % objects),
        ("route", "/route", b'{"messages": [%s]}' % objects),
    ):
        answer = await fresh.http.post(path, content=sent)
        assert "200000 JSON values" in refused(answer, 413, "task_too_large")["message"], name
    async with fresh.ws() as socket:
        frame = b'{"op": "submit", "ref": "r", "task": {"messages": [%s]}}' % objects[:1_000_000]
        await socket.send(frame.decode())
        answer2 = await reply(socket)
        assert answer2["error"]["code"] == "task_too_large"
        assert (await ask(socket, op="ping"))["op"] == "ok"
    assert await total(fresh) == 0


async def test_many_large_bodies_at_once_wait_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "FACTOR", 1 << 40)
    async with serving(tmp_path) as service:
        answers = await asyncio.gather(
            *(service.http.post("/tasks", content=sized(4 << 20)) for _ in range(12)),
            *(service.http.post("/tasks", content=sized(100)) for _ in range(12)),
        )
        assert {answer.status_code for answer in answers[12:]} == {202}
        taken = [answer for answer in answers[:12] if answer.status_code == 202]
        for answer in answers[:12]:
            if answer not in taken:
                refused(answer, 503, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
        assert taken
        assert await total(service) == len(taken) + 12


async def test_a_large_body_that_comes_too_slowly_gives_its_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "FACTOR", 1 << 40)
    monkeypatch.setattr(body, "GRACE_S", 0.0)
    monkeypatch.setattr(body, "LEAST_RATE", 1 << 30)
    async with serving(tmp_path) as service, wire(service.port) as line:
        line.writer.write(head("POST", "/tasks", f"content-length: {MOST}") + b'{"content": "')
        async with asyncio.timeout(20):
            answer = await line.answer()
        assert (answer.status, answer.code()) == (408, "request_timeout")
        monkeypatch.undo()
        assert (await service.http.post("/tasks", content=sized(MOST))).status_code == 202


async def test_a_large_task_is_taken_once_for_its_key(service: Service) -> None:
    sent, headers = sized(1 << 20), {"idempotency-key": "large"}
    first = await service.http.post("/tasks", content=sent, headers=headers)
    again = await service.http.post("/tasks", content=sent, headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    other = await service.http.post("/tasks", content=sized(1 << 19), headers=headers)
    refused(other, 409, "idempotency_conflict")


async def test_a_large_batch_and_a_large_frame_are_taken(service: Service) -> None:
    tasks = [{"content": "x" * 20_000, "delay_s": 3600}] * 100
    answer = await service.http.post("/tasks/batch", json={"tasks": tasks})
    assert len(expect(answer, 202)["tasks"]) == 100
    async with service.ws() as socket:
        task = {"content": "y" * 500_000, "delay_s": 3600}
        taken = await ask(socket, op="submit", task=task)
        assert (await service.task(taken["task_id"]))["content"] == task["content"]


async def test_a_compressed_body_that_is_not_announced_is_refused_in_words(
    service: Service,
) -> None:
    sent = gzip.compress(b'{"content": "x"}')
    for path in ("/tasks", "/tasks/batch", "/route"):
        refused(await service.http.post(path, content=sent), 400, "invalid_json")


async def test_an_announced_length_is_refused_before_it_is_sent(service: Service) -> None:
    async with wire(service.port) as line:
        lines = (f"content-length: {1 << 40}", "expect: 100-continue")
        answer = await line.ask(head("POST", "/tasks", *lines))
        assert (answer.status, answer.code()) == (413, "task_too_large")


async def test_a_body_without_an_end_is_refused_at_the_limit(tmp_path: Path) -> None:
    limit = {"max_task_bytes": 1024}
    async with serving(tmp_path, queue=limit) as service, wire(service.port) as line:
        line.writer.write(head("POST", "/tasks", "transfer-encoding: chunked"))
        line.writer.write(b"1000\r\n%s\r\n" % (b" " * 4096))
        async with asyncio.timeout(20):
            assert (await line.answer()).status == 413


BROKEN = {
    "empty": b"",
    "no JSON": b"hello",
    "cut off": b'{"content": "x"',
    "two values": b"{}{}",
    "NaN": b'{"content": "x", "delay_s": NaN}',
    "Infinity": b'{"content": "x", "delay_s": Infinity}',
    "beyond a double": b'{"content": "x", "delay_s": 1e400}',
    "lone surrogate": rb'{"content": "\ud800"}',
    "half a pair in a key": rb'{"content": "x", "metadata": {"\udfff": 1}}',
    "not UTF-8": b'{"content": "\xff\xfe"}',
    "overlong UTF-8": b'{"content": "\xc0\xaf"}',
    "UTF-16": '{"content": "x"}'.encode("utf-16"),
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"content": "x"}',
    "raw NUL": b'{"content": "\x00"}',
    "single quotes": b"{'content': 'x'}",
    "a comma too many": b'{"content": "x",}',
    "depth 2000": b'{"content": "x", "metadata": {"k": ' + b"[" * 2000 + b"]" * 2000 + b"}}",
    "depth 100000": b"[" * 100_000,
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}


async def test_what_is_no_json_is_a_400(fresh: Service) -> None:
    for name, sent in BROKEN.items():
        for path in ("/tasks", "/tasks/batch"):
            answer = await fresh.http.post(path, content=sent)
            assert refused(answer, 400, "invalid_json")["param"] is None, name
    assert await total(fresh) == 0


async def test_json_that_is_no_object_is_a_422(service: Service) -> None:
    for sent in (b"[]", b"null", b"true", b"5", b'"text"', b'[{"content": "x"}]'):
        for path in ("/tasks", "/tasks/batch"):
            refused(await service.http.post(path, content=sent), 422, "invalid_request")


def nested(depth: int) -> str:
    """JSON text with so many levels."""
    return "[" * depth + "1" + "]" * depth


async def test_deep_values_are_taken_or_refused_but_never_a_fault(service: Service) -> None:
    seen = set()
    for depth in (10, 200, *range(230, 260, 2), 500, 1023, 1024, 1500):
        for field, shown in (("metadata", "user_metadata"), ("params", "params")):
            value = f'{{"k": {nested(depth)}}}'
            sent = f'{{"content": "x", "delay_s": 60, "{field}": {value}}}'
            answer = await service.http.post("/tasks", content=sent)
            assert answer.status_code in (202, 400, 422), depth
            seen.add(answer.status_code)
            if answer.status_code == 202:
                task = await service.http.get(f"/tasks/{answer.json()['task_id']}")
                assert orjson.loads(task.content)[shown] == orjson.loads(value)
    assert seen == {202, 400, 422}
    assert (await service.http.get("/tasks", params={"limit": 500})).status_code == 200


async def test_deep_messages_are_no_fault_either(service: Service) -> None:
    for depth in (230, 300, 1000, 1030):
        message = f'{{"role": "user", "content": [{{"type": "text", "text": {nested(depth)}}}]}}'
        sent = f'{{"messages": [{message}], "delay_s": 60}}'
        for path, body_sent in (("", sent), ("/batch", f'{{"tasks": [{sent}]}}')):
            answer = await service.http.post(f"/tasks{path}", content=body_sent)
            assert answer.status_code in (202, 400, 422), depth


async def test_a_number_that_would_be_changed_is_refused(service: Service) -> None:
    for number in (2**70, 2**64, -(2**63) - 1, 10**30 + 1):
        for fields in (
            {"content": "x", "metadata": {"k": number}},
            {"content": "x", "params": {"seed": [number]}},
            {"content": "x", "priority": number},
        ):
            answer = await service.http.post("/tasks", content=json.dumps(fields))
            refused(answer, 422, "invalid_request")


async def test_large_numbers_that_fit_come_back_as_they_were(service: Service) -> None:
    metadata = {"k": [2**63 - 1, -(2**63), 2**64 - 1, 1e300, 0.12345678901234567], "id": "9" * 40}
    task_id = await service.submit(metadata=metadata)
    assert (await service.task(task_id))["user_metadata"] == metadata


async def test_strange_text_comes_back_as_it_was(fresh: Service) -> None:
    for text in (
        "\x00",
        "a\x00b",
        "\u2028\u2029",
        "😀",
        "\ufeffx",
        "\x1b[31m",
        "\r\n\r\n",
        "\uffff",
    ):
        task_id = await fresh.submit(text, metadata={text: text}, delay_s=60)
        task = await fresh.task(task_id)
        assert task["content"] == text
        assert task["user_metadata"] == {text: text}
        assert (await fresh.events(task_id))[0]["data"]["status"] == "scheduled"
    page = expect(await fresh.http.get("/tasks"), 200)
    assert page["tasks"][-1]["content_preview"] == "\x00"


async def test_of_a_key_that_comes_twice_the_last_counts(service: Service) -> None:
    answer = await service.http.post("/tasks", content=b'{"content": "a", "content": "b"}')
    assert (await service.task(answer.json()["task_id"]))["content"] == "b"


async def test_the_content_type_does_not_matter(service: Service) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"):
        answer = await service.http.post(
            "/tasks", content=b'{"content": "x"}', headers={"content-type": kind}
        )
        assert answer.status_code == 202, kind


async def test_a_client_that_leaves_in_the_middle_is_no_fault_of_ours(
    fresh: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, over = asyncio.Event(), asyncio.Event()
    collect = body.collect

    async def watched(receive: Receive, announced: int, limit: int, bodies: Bodies) -> Body:
        began.set()
        try:
            return await collect(receive, announced, limit, bodies)
        finally:
            over.set()

    monkeypatch.setattr(body, "collect", watched)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(20), wire(fresh.port) as line:
            line.writer.write(head("POST", "/tasks", "content-length: 20000") + b'{"content": "')
            await began.wait()
            line.writer.transport.abort()
            await over.wait()
        assert await total(fresh) == 0
    assert caplog.text == ""


async def test_an_object_is_given_as_it_is() -> None:
    assert as_object(b'{"a": [1, "x", 0.5, null]}') == {"a": [1, "x", 0.5, None]}


async def test_faults_have_their_own_errors() -> None:
    with pytest.raises(InvalidJson):
        as_object("{")
    with pytest.raises(InvalidRequest, match="object"):
        as_object("[]")
    with pytest.raises(InvalidRequest, match="deep"):
        as_object(f'{{"k": {nested(300)}}}')
    with pytest.raises(InvalidRequest, match="64 bits"):
        as_object(json.dumps({"k": 2**70}))


async def test_the_limit_of_small_bodies_is_exact_however_they_come(tmp_path: Path) -> None:
    most = 1024
    async with serving(tmp_path, queue={"max_task_bytes": most}) as service:
        for size in (most - 1, most, most + 1, most + 2, 2 * most):
            status = 202 if size <= most else 413
            for piece in (1, 7, 512, most, most + 1, 65536):
                async with wire(service.port) as line:
                    answer = await line.ask(chunked("/tasks", sized(size), piece))
                    assert answer.status == status, (size, piece)
                    if status == 413:
                        assert answer.code() == "task_too_large"
        assert await total(service) == 2 * 6


async def test_the_limit_of_a_body_counts_what_came_in_all_its_pieces() -> None:
    room = Bodies(1 << 30, LargeWork())

    async def taken(pieces: list[bytes], limit: int) -> bytes:
        last = len(pieces) - 1
        messages = iter(
            {"type": "http.request", "body": each, "more_body": number < last}
            for number, each in enumerate(pieces)
        )

        async def receive() -> Message:
            return next(messages)

        data, hold = await body.collect(receive, 0, limit, room)
        if hold is not None:
            hold.release()
        return data

    for limit in (1, 100, bodies.SMALL - 1, bodies.SMALL, bodies.SMALL + 1, 3 * bodies.SMALL):
        whole = b"x" * limit
        for cut in {0, 1, limit // 2, limit - 1, limit}:
            assert await taken([whole[:cut], whole[cut:]], limit) == whole, (limit, cut)
            for pieces in ([whole[:cut], whole[cut:] + b"y"], [whole[:cut], whole[cut:], b"y"]):
                with pytest.raises(TaskTooLarge):
                    await taken(pieces, limit)
    assert room.free == room.most
