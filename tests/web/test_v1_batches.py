"""/v1/batches and /v1/files as the official SDK uses them, over a real socket."""

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.polling import until
from tests.web.serving import Service, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT: Any = "/v1/chat/completions"
EMBED, RESPOND = "/v1/embeddings", "/v1/responses"
ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, content: str = "x", **more: Any) -> dict[str, Any]:
    body = {"model": "fast", "messages": [{"role": "user", "content": content}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body | more}


def text(lines: list[Any]) -> bytes:
    return "".join(
        f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines
    ).encode()


async def upload(sdk: AsyncOpenAI, lines: list[Any]) -> str:
    made = await sdk.files.create(file=("in.jsonl", text(lines)), purpose="batch")
    return made.id


async def begin(sdk: AsyncOpenAI, lines: list[Any], endpoint: Any = CHAT, **more: Any) -> Any:
    file_id = await upload(sdk, lines)
    return await sdk.batches.create(
        input_file_id=file_id, endpoint=endpoint, completion_window="24h", **more
    )


async def ended(sdk: AsyncOpenAI, batch: Any) -> Any:
    return await until(lambda: sdk.batches.retrieve(batch.id), lambda now: now.status in ENDED)


async def answers(sdk: AsyncOpenAI, file_id: str | None) -> dict[str, Any]:
    """The lines of an output file by custom_id, each of which must be there once."""
    if file_id is None:
        return {}
    found = [json.loads(one) for one in (await sdk.files.content(file_id)).text.splitlines()]
    assert len({one["custom_id"] for one in found}) == len(found)
    return {one["custom_id"]: one for one in found}


async def test_a_batch_from_upload_to_output(service: Service, sdk: AsyncOpenAI) -> None:
    lines = [line(f"c{i}", f"what is {i}") for i in range(120)]
    begun = await begin(sdk, lines, metadata={"a": "b"})
    assert begun.status == "validating"
    assert begun.metadata == {"a": "b"}
    done = await ended(sdk, begun)
    assert done.status == "completed"
    assert done.request_counts.to_dict() == {"total": 120, "completed": 120, "failed": 0}
    assert done.error_file_id is None
    found = await answers(sdk, done.output_file_id)
    assert found.keys() == {one["custom_id"] for one in lines}
    one = found["c7"]
    assert (one["error"], one["response"]["status_code"]) == (None, 200)
    task = await service.task(one["response"]["request_id"])
    body = one["response"]["body"]
    assert body["choices"][0]["message"]["content"] == task["result"]
    assert body["usage"] == task["metadata"]["usage"]
    assert task["lane"] == "long"
    output = await sdk.files.retrieve(done.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{done.id}_output.jsonl")
    listed = [one.id async for one in sdk.batches.list(limit=1)]
    assert done.id in listed


async def test_lines_that_fail_go_to_the_error_file(sdk: AsyncOpenAI) -> None:
    lines = [
        line("good"),
        line("unknown", model="none"),
        line("wrong", n=2),
        line("streams", stream=True),
        line("refused", "[[sim:400]]"),
    ]
    done = await ended(sdk, await begin(sdk, lines))
    assert done.status == "completed"
    assert done.request_counts.to_dict() == {"total": 5, "completed": 1, "failed": 4}
    assert list(await answers(sdk, done.output_file_id)) == ["good"]
    failed = await answers(sdk, done.error_file_id)
    statuses = {name: one["response"]["status_code"] for name, one in failed.items()}
    assert statuses == {"unknown": 404, "wrong": 400, "streams": 400, "refused": 400}
    assert failed["unknown"]["response"]["body"]["error"]["code"] == "model_not_found"


async def test_responses_and_embeddings_have_their_own_answers(sdk: AsyncOpenAI) -> None:
    asked = {"model": "fast", "input": "x", "instructions": "short"}
    one = {"custom_id": "r", "method": "POST", "url": RESPOND, "body": asked}
    done = await ended(sdk, await begin(sdk, [one], RESPOND))
    body = (await answers(sdk, done.output_file_id))["r"]["response"]["body"]
    assert (await sdk.responses.retrieve(body["id"])).to_dict() == body
    lines = [
        {"custom_id": f, "method": "POST", "url": EMBED, "body": {"model": "embed", "input": "x"}}
        for f in ("float", "base64")
    ]
    lines[1]["body"] |= {"encoding_format": "base64"}  # type: ignore[operator]
    done = await ended(sdk, await begin(sdk, lines, EMBED))
    found = await answers(sdk, done.output_file_id)
    kinds = [
        type(found[n]["response"]["body"]["data"][0]["embedding"]) for n in ("float", "base64")
    ]
    assert kinds == [list, str]


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        (["{"], "invalid_json_line", 1),
        (["[]"], "invalid_json_line", 1),
        ([line("a"), line("a")], "duplicate_custom_id", 2),
        ([line("a") | {"url": EMBED}], "mismatched_url", 1),
        ([line("a") | {"method": "GET"}], "invalid_method", 1),
        ([line("a") | {"custom_id": 1}], "missing_required_parameter", 1),
        ([line("a") | {"body": []}], "missing_required_parameter", 1),
        ([" ", ""], "empty_file", None),
    ],
)
async def test_a_file_with_a_wrong_line_fails_as_a_whole(
    sdk: AsyncOpenAI, lines: list[Any], code: str, number: int | None
) -> None:
    done = await ended(sdk, await begin(sdk, lines))
    assert done.status == "failed"
    [error] = done.errors.data
    assert (error.code, error.line) == (code, number)
    assert done.failed_at is not None


async def test_cancel_keeps_finished_lines_and_names_the_others(sdk: AsyncOpenAI) -> None:
    lines = [line("first"), *(line(f"h{i}", f"[[sim:hang]] {i}") for i in range(700))]
    begun = await begin(sdk, lines)
    await until(
        lambda: sdk.batches.retrieve(begun.id),
        lambda now: now.request_counts is not None and now.request_counts.completed > 0,
    )
    assert (await sdk.batches.cancel(begun.id)).status == "cancelling"
    done = await ended(sdk, begun)
    assert done.status == "cancelled"
    assert list(await answers(sdk, done.output_file_id)) == ["first"]
    failed = await answers(sdk, done.error_file_id)
    assert failed.keys() == {f"h{i}" for i in range(700)}
    assert {one["error"]["code"] for one in failed.values()} == {"batch_cancelled"}
    assert (await sdk.batches.cancel(begun.id)).status == "cancelled"


async def test_headers_say_where_its_lines_wait(service: Service, sdk: AsyncOpenAI) -> None:
    done = await ended(sdk, await begin(sdk, [line("a")], extra_headers={"x-lane": "priority"}))
    one = (await answers(sdk, done.output_file_id))["a"]
    assert (await service.task(one["response"]["request_id"]))["lane"] == "priority"
    with pytest.raises(openai.BadRequestError, match="x-priority"):
        await begin(sdk, [line("a")], extra_headers={"x-priority": "high"})


async def test_a_deleted_task_of_a_batch_is_an_error_line(
    service: Service, sdk: AsyncOpenAI
) -> None:
    begun = await begin(sdk, [line("a", "[[sim:hang]] gone")])
    found = await until(
        lambda: service.http.get("/tasks?q=gone"), lambda now: bool(now.json()["tasks"])
    )
    task_id = found.json()["tasks"][0]["task_id"]
    await service.steer(task_id, "cancel")
    done = await ended(sdk, begun)
    failed = await answers(sdk, done.error_file_id)
    assert failed["a"]["response"]["body"]["error"]["code"] in ("cancelled", "task_not_found")


async def test_an_input_file_deleted_under_way_fails_the_batch(
    service: Service, sdk: AsyncOpenAI
) -> None:
    begun = await begin(sdk, [line(f"h{i}", f"[[sim:hang]] d{i}") for i in range(600)])
    await until(lambda: sdk.batches.retrieve(begun.id), lambda now: now.status == "in_progress")
    await sdk.files.delete(begun.input_file_id)
    await sdk.batches.cancel(begun.id)
    done = await ended(sdk, begun)
    assert done.status == "failed"
    assert done.errors.data[0].code == "input_file_deleted"
    assert done.request_counts.failed == done.request_counts.total < 600


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": 7}, "input_file_id"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_a_wrong_field_is_named(
    service: Service, sdk: AsyncOpenAI, more: dict[str, Any], param: str
) -> None:
    body = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": "file-x"} | more
    error = refused(await service.http.post("/v1/batches", json=body), 400, "invalid_request")
    assert error["param"] == param


async def test_what_is_not_there_is_not_found(sdk: AsyncOpenAI) -> None:
    for ask in (
        sdk.batches.retrieve("batch_x"),
        sdk.batches.cancel("batch_x"),
        sdk.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="24h"),
    ):
        with pytest.raises(openai.NotFoundError):
            await ask


def sync_life(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        made = client.files.create(file=("s.jsonl", text([line("s")])), purpose="batch")
        batch = client.batches.create(
            input_file_id=made.id,
            endpoint=CHAT,
            completion_window="24h",
        )
        while (batch := client.batches.retrieve(batch.id)).status not in ENDED:
            pass
        assert batch.status == "completed"
        assert batch.output_file_id is not None
        assert json.loads(client.files.content(batch.output_file_id).text)["custom_id"] == "s"


async def test_the_sync_client_does_the_same(service: Service) -> None:
    await asyncio.to_thread(sync_life, service.url)


async def test_what_a_batch_has_written_is_no_input(sdk: AsyncOpenAI, service: Service) -> None:
    done = await ended(sdk, await begin(sdk, [line("good"), line("wrong", n=2)]))
    for file_id in (done.output_file_id, done.error_file_id):
        body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        answer = await service.http.post("/v1/batches", json=body)
        error = refused(answer, 400, "invalid_request")
        assert error["param"] == "input_file_id"
        assert "batch_output" in error["message"]


async def test_a_file_as_powershell_writes_it_is_taken(sdk: AsyncOpenAI) -> None:
    data = b"\xef\xbb\xbf" + text([line("a"), line("b")]).replace(b"\n", b"\r\n").rstrip()
    held = await sdk.files.create(file=("in.jsonl", data), purpose="batch")
    begun = await sdk.batches.create(input_file_id=held.id, endpoint=CHAT, completion_window="24h")
    done = await ended(sdk, begun)
    assert (done.status, done.request_counts.completed) == ("completed", 2)
