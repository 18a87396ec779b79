"""Requests to the service as a program sends them, and what came back."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.clients import strict
from tests.web.serving import Service, expect

Object = dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """A response with its events, where it was streamed."""

    response: Object
    events: list[Object]
    task_id: str

    @property
    def items(self) -> list[Object]:
        found: list[Object] = self.response["output"]
        return found

    @property
    def text(self) -> str:
        parts = [part for item in self.items for part in item.get("content") or []]
        return "".join(part["text"] for part in parts if part["type"] == "output_text")

    def item(self, kind: str) -> Object:
        """The one item of that kind."""
        [found] = [item for item in self.items if item["type"] == kind]
        return found

    def of(self, kind: str) -> list[Object]:
        """The events of that kind."""
        return [event for event in self.events if event["type"] == kind]


async def respond(service: Service, **body: Any) -> Answered:
    """A response, by all types of the `openai` package."""
    asked = {"model": "fast"} | body
    answer = await service.http.post("/v1/responses", json=asked)
    assert answer.status_code == 200, answer.text
    task_id = answer.headers["x-task-id"]
    if not asked.get("stream"):
        return Answered(strict.response(answer.json()), [], task_id)
    events = [strict.event(one) for one in frames(answer)]
    return Answered(events[-1]["response"], events, task_id)


async def chat(service: Service, *messages: Object, **body: Any) -> Object:
    """A chat completion, whole."""
    given = list(messages) or [{"role": "user", "content": "hi"}]
    asked = {"model": "fast", "messages": given} | body
    answer = await service.http.post("/v1/chat/completions", json=asked)
    return strict.completion(expect(answer, 200))


def frames(answer: httpx.Response) -> list[Object]:
    """The objects of a stream of server-sent events."""
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


async def warnings(service: Service, task_id: str) -> str:
    """What the task says was not done as asked."""
    route = (await service.task(task_id))["metadata"]["route"]
    return "; ".join(route.get("warnings", []))
