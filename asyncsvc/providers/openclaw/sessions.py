"""OpenClaw, an agent gateway: how its agents are addressed, and what became of a run.

Owns the reading of a model id (`openclaw/AGENT`, `AGENT` and a language model after `@`), the
session key of an attempt, and the gateway's account of a session as one `RunStatus`. Promises that
only a whole answer counts as one: a run that was aborted leaves its partial text in the history
with the same stop reason as a good one. Never speaks to anybody: `client.py` and
`openclaw_ws.py` do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

MODEL_HEADER = "x-openclaw-model"
AGENT_HEADER = "x-openclaw-agent-id"
SESSION_HEADER = "x-openclaw-session-key"
_AGENT = re.compile(r"(?:openclaw[/:]|agent:)(.+)|openclaw")
_DEAD = frozenset({"killed", "failed", "aborted", "timeout", "error", "cancelled"})


@dataclass(frozen=True, slots=True)
class Target:
    """`model` as the gateway wants it in the body; `agent` is None for its default one."""

    model: str
    agent: str | None
    headers: Mapping[str, str]


def target(model_id: str, extra: Mapping[str, str] | None = None) -> Target:
    """The agent and the language model that a model id of the settings means.

    `openclaw`, `openclaw/main`, `openclaw:main`, `agent:main`: that agent;
    `openclaw/main@provider/model`: with that language model; `provider/model`: that language
    model with the default agent. `extra` are the settings' headers: an agent named there wins.
    """
    agent_part, _, language = model_id.partition("@")
    found = _AGENT.fullmatch(agent_part)
    if found is None:
        agent_part, language, name = "openclaw", model_id, None
    else:
        name = found[1]
    for header, value in (extra or {}).items():
        if header.lower() == AGENT_HEADER:
            name = value
    agent = None if name in (None, "default") else str(name).lower()
    return Target(agent_part, agent, {MODEL_HEADER: language} if language else {})


def session_key(task_id: str, attempt: int) -> str:
    """The session of one attempt; the gateway makes keys lower-case, so they are from the start."""
    return f"asyncsvc:{task_id}:{attempt}".lower()


def full_key(key: str, agent: str | None) -> str:
    """How the gateway itself calls that session; one of the default agent's goes by its own."""
    return key if agent is None else f"agent:{agent}:{key}"


class State(StrEnum):
    """What became of a run."""

    ANSWERED = "answered"
    RUNNING = "running"
    LOST = "lost"
    NEVER = "never_began"
    AWAY = "gateway_away"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """`text` and `usage` where it is answered; `detail` in words."""

    state: State
    text: str = ""
    usage: dict[str, Any] | None = None
    detail: str = ""


def origin(base_url: str) -> str:
    """The gateway's root: scheme, host and port."""
    parts = urlsplit(base_url)
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}"


def socket_url(base_url: str) -> str:
    """Where its WebSocket is."""
    parts = urlsplit(base_url)
    return f"{parts.scheme.replace('http', 'ws')}://{parts.netloc}/"


def history_url(base_url: str, key: str) -> str:
    return f"{origin(base_url)}/sessions/{quote(key, safe='')}/history"


def fate_in(status: int, history: Any, run_status: str | None) -> RunStatus:
    """What an answer of `/sessions/KEY/history` says; `run_status` is that of
    `sessions.describe`, None where it could not be asked."""
    if status == 404:
        return RunStatus(State.NEVER, detail="the gateway has no such session: the run never began")
    if status != 200 or not isinstance(history, dict):
        return RunStatus(State.AWAY, detail=f"the gateway answered {status}")
    messages = history.get("messages")
    messages = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    last = messages[-1] if messages else {}
    if run_status in _DEAD:
        return RunStatus(State.LOST, detail=f"its last run is {run_status}")
    if last.get("role") == "assistant" and _whole(last) and (text := text_of(last)):
        usage = usage_in(last.get("usage"))
        return RunStatus(State.ANSWERED, text, usage, "the answer is in its history")
    if run_status == "done":
        return RunStatus(State.LOST, detail="its last run ended without an answer")
    return RunStatus(
        State.RUNNING, detail="the gateway has the run under way, or will take it up again"
    )


def _whole(message: dict[str, Any]) -> bool:
    """Whether a model ended the message: a text cut by an abort has no `responseId`."""
    return message.get("stopReason") in ("stop", "length") and bool(message.get("responseId"))


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, be it one string or parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        str(part.get("text") or "")
        for part in parts
        if isinstance(part, dict) and part.get("type") == "text"
    )


def usage_in(found: Any) -> dict[str, Any] | None:
    """OpenAI's names for what the gateway counts."""
    if not isinstance(found, dict):
        return None
    numbers = [found.get(name) for name in ("input", "output", "totalTokens")]
    prompt, completion, total = (n if isinstance(n, int) else 0 for n in numbers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total or prompt + completion,
    }


def json_text(value: Any) -> str:
    """A value as JSON, for people."""
    return orjson.dumps(value, default=str).decode()
