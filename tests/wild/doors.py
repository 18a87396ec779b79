"""The ways into the service: from the words of a case to a request, and back to an answer.

Each door gives the same `Answer`, so that one judge serves all of them. An answer that does not
keep the door's own rules (broken JSON, a tool call without an id) carries a fault.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from asyncsvc.tasks.submission import Submission

Object = dict[str, Any]

OWN_TOOLS = "tools"
"""A field of a task too, but there it names the service's own tools: a case means the model's."""
TASK_FIELDS = frozenset(Submission.model_fields) - {OWN_TOOLS}
TEXTS = ["a", "b", "c"]
CUT_SHORT = {"max_output_tokens": "length", "content_filter": "content_filter"}


@dataclass
class Answer:
    """What a client saw of one request."""

    status: str
    """completed, failed, refused, hung, broken."""
    http: int | None = None
    raw: str = ""
    text: str | None = None
    reasoning: str | None = None
    tool_calls: list[Object] = field(default_factory=list)
    finish_reason: str | None = None
    usage: list[Any] | None = None
    estimated: bool = False
    vectors: Any = None
    error_code: str | None = None
    message: str = ""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    task_id: str | None = None

    def refuse(self, error: Any, status: str = "refused") -> None:
        """Take code and message of an error object."""
        self.status = status
        if isinstance(error, dict):
            self.error_code = error.get("code")
            self.message = str(error.get("message", ""))
        else:
            self.faults.append(f"the error is no object: {error!r}")

    def used(self, usage: Any, names: Sequence[str]) -> None:
        if isinstance(usage, dict):
            self.usage = [usage.get(name) for name in names]
            self.estimated = self.estimated or bool(usage.get("estimated"))


USED = ("prompt_tokens", "completion_tokens", "total_tokens")


class BatchEndpoint:
    """Asks one model of one service."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str, kind: str) -> None:
        self._http = http
        self._url = url
        self._model = model
        self._kind = kind

    async def ask(self, door: str, body: Object, seconds: float) -> Answer:
        """The answer to one request; `hung` where it takes longer."""
        answer = Answer("hung")
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await getattr(self, f"_{door}")(body, answer)
        except TimeoutError:
            answer.status = "hung"
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            answer.status = "broken"
            answer.faults.append(f"unreadable: {type(error).__name__}: {error}")
        except aiohttp.ClientError as error:
            answer.status = "broken"
            answer.faults.append(f"the connection broke: {error}")
        answer.seconds = time.monotonic() - began
        if answer.task_id is not None and answer.status == "completed":
            await self._look_up_usage(answer)
        return answer

    async def _look_up_usage(self, answer: Answer) -> None:
        task = await self._get(f"/tasks/{answer.task_id}")
        usage = (task.get("metadata") or {}).get("usage")
        answer.estimated = isinstance(usage, dict) and bool(usage.get("estimated"))

    async def _get(self, path: str) -> Object:
        async with self._http.get(self._url + path) as response:
            value: Object = json.loads(await response.text())
            return value

    async def _post(self, path: str, body: Object, answer: Answer) -> str:
        async with self._http.post(self._url + path, json=body) as response:
            answer.http = response.status
            answer.task_id = response.headers.get("x-task-id")
            data = bytearray()
            async for part in response.content.iter_any():
                data += part
                answer.raw = data.decode("utf-8", "replace")
            answer.raw = data.decode("utf-8")
            return answer.raw

    async def _tasks(self, body: Object, answer: Answer) -> None:
        asked: Object = {"model": self._model}
        if self._kind == "embedding":
            asked |= {"type": "embedding", "input": body.get("input", TEXTS)}
        elif "messages" not in body:
            asked["content"] = body.get("content", "hi")
        asked |= {k: v for k, v in body.items() if k in TASK_FIELDS}
        if params := {k: v for k, v in body.items() if k not in TASK_FIELDS}:
            asked["params"] = params
        made = json.loads(await self._post("/tasks", asked, answer))
        if answer.http != 202:
            answer.refuse(made.get("error"))
            return
        answer.task_id = made["task_id"]
        await self._follow(answer)
        task = await self._get(f"/tasks/{answer.task_id}")
        answer.raw += json.dumps(task, ensure_ascii=False)
        answer.status = task["status"]
        answer.used(task["metadata"]["usage"], USED)
        if task["error"] is not None:
            answer.refuse(task["error"], answer.status)
        if self._kind == "embedding":
            answer.vectors = task["result"]
        else:
            answer.text = task["result"]
        answer.tool_calls = task.get("tool_calls") or []

    async def _follow(self, answer: Answer) -> None:
        """Read the events of the task until its last."""
        calls = Calls(answer.faults)
        reasoning: list[str] = []
        path = f"{self._url}/tasks/{answer.task_id}/events"
        async with self._http.get(path, headers={"accept": "text/event-stream"}) as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if event["type"] == "attempt":
                        reasoning, calls = [], Calls(answer.faults)
                    elif event["type"] == "reasoning":
                        reasoning.append(event["data"]["text"])
                    elif event["type"] == "tool_call":
                        calls.take(event["data"])
        answer.reasoning = "".join(reasoning)

    def _chat_body(self, body: Object) -> Object:
        asked = {k: v for k, v in body.items() if k != "content"}
        asked.setdefault("messages", [{"role": "user", "content": body.get("content", "hi")}])
        return {"model": self._model} | asked

    async def _chat(self, body: Object, answer: Answer) -> None:
        got = json.loads(await self._post("/v1/chat/completions", self._chat_body(body), answer))
        if _failed(got, answer):
            return
        choice = got["choices"][0]
        message = choice["message"]
        answer.text = message.get("content")
        answer.reasoning = message.get("reasoning_content")
        answer.tool_calls = message.get("tool_calls") or []
        answer.finish_reason = choice["finish_reason"]
        answer.used(got.get("usage"), USED)

    async def _chat_stream(self, body: Object, answer: Answer) -> None:
        how = {"stream": True, "stream_options": {"include_usage": True}}
        raw = await self._post("/v1/chat/completions", self._chat_body(body) | how, answer)
        if answer.http != 200:
            _failed(json.loads(raw), answer)
            return
        text, reasoning, calls = [], [], Calls(answer.faults)
        done = False
        for line in raw.split("\n"):
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                done = True
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                answer.refuse(chunk["error"], "failed")
                return
            answer.used(chunk.get("usage"), USED)
            for choice in chunk["choices"]:
                delta = choice["delta"]
                text.append(delta.get("content") or "")
                reasoning.append(delta.get("reasoning_content") or "")
                for piece in delta.get("tool_calls") or []:
                    calls.take(piece)
                answer.finish_reason = choice["finish_reason"] or answer.finish_reason
        answer.text, answer.reasoning = "".join(text), "".join(reasoning)
        answer.tool_calls = calls.whole()
        answer.status = "completed" if done else "broken"

    async def _responses(self, body: Object, answer: Answer) -> None:
        asked = {k: v for k, v in body.items() if k not in ("content", "messages", "tools")}
        if "max_tokens" in asked:
            asked["max_output_tokens"] = asked.pop("max_tokens")
        if "tools" in body:
            asked["tools"] = [{"type": t["type"]} | t["function"] for t in body["tools"]]
        asked |= {"model": self._model, "input": body.get("messages", body.get("content", "hi"))}
        got = json.loads(await self._post("/v1/responses", asked, answer))
        if _failed(got, answer):
            return
        if got["status"] == "failed":
            answer.refuse(got["error"], "failed")
            return
        _read_output(got["output"], answer)
        why = (got.get("incomplete_details") or {}).get("reason")
        answer.finish_reason = CUT_SHORT.get(why, why) if why else "stop"
        if answer.tool_calls and not why:
            answer.finish_reason = "tool_calls"
        answer.used(got.get("usage"), ("input_tokens", "output_tokens", "total_tokens"))

    async def _embeddings(self, body: Object, answer: Answer) -> None:
        asked = {"model": self._model, "input": TEXTS} | body
        got = json.loads(await self._post("/v1/embeddings", asked, answer))
        if _failed(got, answer):
            return
        rows = sorted(got["data"], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(len(rows))):
            answer.faults.append("the indexes of the vectors are not 0, 1, …")
        answer.vectors = [row["embedding"] for row in rows]
        answer.used(got.get("usage"), ("prompt_tokens", "-", "total_tokens"))


def _failed(got: Object, answer: Answer) -> bool:
    """Whether the answer is an error; a failure has a task, a refusal has none."""
    if answer.http == 200:
        answer.status = "completed"
        return False
    answer.refuse(got.get("error"), "refused" if answer.task_id is None else "failed")
    return True


def _read_output(output: list[Object], answer: Answer) -> None:
    text, reasoning = [], []
    for item in output:
        parts = "".join(part.get("text", "") for part in item.get("content") or [])
        match item["type"]:
            case "message":
                text.append(parts)
            case "reasoning":
                reasoning.append(parts)
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                kept = {k: v for k, v in item.items() if k not in function}
                answer.tool_calls.append(kept | {"id": item["call_id"], "function": function})
    answer.text, answer.reasoning = "".join(text), "".join(reasoning)


class Calls:
    """Tool calls put together from their pieces, which must come with indexes 0, 1, …"""

    def __init__(self, faults: list[str]) -> None:
        self._faults = faults
        self._calls: list[Object] = []

    def take(self, piece: Object) -> None:
        index = piece.get("index")
        if not isinstance(index, int) or not 0 <= index <= len(self._calls):
            self._faults.append(f"a piece of a tool call has the index {index!r}")
            return
        if index == len(self._calls):
            self._calls.append({"function": {"name": "", "arguments": ""}})
        held = self._calls[index]
        function = piece.get("function") or {}
        held["function"]["name"] = function.get("name") or held["function"]["name"]
        held["function"]["arguments"] += function.get("arguments") or ""
        held |= {k: v for k, v in piece.items() if k not in ("function", "index") and v}

    def whole(self) -> list[Object]:
        return self._calls
