from typing import Any

import pytest

from asyncsvc.providers.agents import RunState, RunStatus
from asyncsvc.providers.dialects import PRESETS, session_key, target
from asyncsvc.providers.openclaw.runs import full_key, history_url, status_in, text_of
from asyncsvc.providers.openclaw.socket import socket_url
from tests.upstreams import ASK, upstream

LANGUAGE = "x-openclaw-model"
USER = {"role": "user", "content": "hello"}
ANSWER = {
    "role": "assistant",
    "content": [
        {"type": "text", "text": "Hel"},
        {"type": "thinking"},
        {"type": "text", "text": "lo"},
    ],
    "stopReason": "stop",
    "responseId": "r1",
    "usage": {"input": 7, "output": 2},
}


@pytest.mark.parametrize(
    ("given", "model", "agent", "headers"),
    [
        ("openclaw", "openclaw", None, {}),
        ("openclaw/default", "openclaw/default", None, {}),
        ("openclaw/Main", "openclaw/Main", "main", {}),
        ("openclaw:main", "openclaw:main", "main", {}),
        ("agent:main", "agent:main", "main", {}),
        ("openclaw/main@fake/one", "openclaw/main", "main", {LANGUAGE: "fake/one"}),
        ("fake/one", "openclaw", None, {LANGUAGE: "fake/one"}),
    ],
)
def test_a_model_id_names_an_agent_and_a_language_model(
    given: str, model: str, agent: str | None, headers: dict[str, str]
) -> None:
    aim = target(given)
    assert (aim.model, aim.agent, dict(aim.headers)) == (model, agent, headers)
    account = upstream(preset=PRESETS["openclaw"], model=given)
    assert account.chat_body(ASK, {})["model"] == model
    assert account.headers().get(LANGUAGE) == headers.get(LANGUAGE)


def test_an_agent_in_the_headers_of_the_settings_wins() -> None:
    assert target("openclaw/main", {"X-OpenClaw-Agent-Id": "second"}).agent == "second"


def test_other_presets_have_neither_agents_nor_sessions() -> None:
    account = upstream(model="openclaw/main@x/y")
    assert account.chat_body(ASK, {})["model"] == "openclaw/main@x/y"
    assert account.session_key("t", 1) is None
    assert LANGUAGE not in account.headers()


def test_keys_are_lower_case_and_the_gateway_knows_them_by_agent() -> None:
    assert session_key("ABC-1", 2) == "asyncsvc:abc-1:2"
    assert full_key("k", "main") == "agent:main:k"
    assert full_key("k", None) == "k"
    url = "http://127.0.0.1:1/v1"
    assert (
        history_url(url, "agent:main:k") == "http://127.0.0.1:1/sessions/agent%3Amain%3Ak/history"
    )
    assert socket_url("https://host:1/v1") == "wss://host:1/"
    assert history_url("ws://host:1", "k") == "http://host:1/sessions/k/history"


def _fate(messages: list[Any], run: str | None = "done", status: int = 200) -> RunStatus:
    return status_in(status, {"messages": messages}, run)


@pytest.mark.parametrize("run", ["done", "running", None])
def test_a_whole_answer_at_the_end_of_the_history_counts(run: str | None) -> None:
    found = _fate([USER, ANSWER], run)
    assert (found.state, found.text) == (RunState.ANSWERED, "Hello")
    assert found.usage == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


@pytest.mark.parametrize(
    ("messages", "run", "state"),
    [
        ([USER], "running", RunState.RUNNING),
        ([USER], None, RunState.RUNNING),
        ([USER, ANSWER, USER], "running", RunState.RUNNING),
        ([USER, ANSWER | {"responseId": None}], "running", RunState.RUNNING),
        ([USER, ANSWER | {"stopReason": "error"}], None, RunState.RUNNING),
        ([USER, ANSWER], "killed", RunState.LOST),
        ([USER], "failed", RunState.LOST),
        ([USER], "done", RunState.LOST),
        ([USER, ANSWER | {"content": []}], "done", RunState.LOST),
        ([], "running", RunState.RUNNING),
        (["odd"], "running", RunState.RUNNING),
    ],
)
def test_what_is_no_whole_answer_does_not(
    messages: list[Any], run: str | None, state: RunState
) -> None:
    assert _fate(messages, run).state is state


def test_a_session_that_is_not_there_never_began() -> None:
    assert _fate([], None, 404).state is RunState.NEVER
    assert _fate([], None, 503).state is RunState.AWAY
    assert status_in(200, None, None).state is RunState.AWAY
    assert status_in(200, {"messages": "odd"}, "running").state is RunState.RUNNING


def test_the_text_of_a_message() -> None:
    assert text_of({"content": "plain"}) == "plain"
    assert text_of({"content": None}) == ""
    assert text_of({"content": ["odd", {"type": "text"}]}) == ""
