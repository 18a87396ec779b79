"""An upstream: one key of one model, with its gate, and the requests that it is sent.

Owns what is sent where: URL, headers, the request's body and messages in the provider's dialect.
Promises that only known parameters and never a client's header reach the provider; that what is
left out is named in a warning; that a message as the client sent it is left as it was; that what a
later turn needs (signatures, `reasoning_details`) is passed on unchanged where the preset takes it;
and that a key is in no representation of itself. Never sends anything and never looks at a
provider's name.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from asyncsvc.config.settings import Model, Timeouts
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.providers import tools
from asyncsvc.providers.answers.thinking import SYSTEM
from asyncsvc.providers.dialects import THINKERS, TOOLS, Preset, Target, session_key, target

CHAT, EMBEDDINGS = "/chat/completions", "/embeddings"
STREAM_OPTIONS, USAGE = "stream_options", "include_usage"
THINKING = "thinking"
"""The parameter that is the service's own: on, off or auto."""

SECRET_HEADER = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)

TEMPLATE = "chat_template_kwargs"
"""The parameter that switches thinking in a model's chat template."""

NAMES, NAME_CHARS = 10, 40
"""How much of a client's own words a warning repeats: it is stored with each attempt."""


@dataclass(slots=True)
class Upstream:
    """One account; a model with several keys has several."""

    name: str
    settings: Model
    preset: Preset
    gate: AccountLimiter
    base_url: str
    key: str | None = field(default=None, repr=False)
    variable: str | None = None
    """The variable that holds the key."""
    gone: set[str] = field(default_factory=set)
    """Ids that the provider no longer has."""
    ready: bool | None = None
    """Whether a gateway reported itself ready; None where there is none, or it was not asked."""
    looked_at: float = -math.inf
    refused: set[str] = field(default_factory=set)
    """Fields that the service adds by itself and that this provider does not know."""
    prepared: dict[tuple[str, str], tuple[httpx.URL, httpx.Headers]] = field(
        default_factory=dict, repr=False
    )
    """The URL and the headers of its calls, by path and model id, as the client has made them."""

    @property
    def model_id(self) -> str:
        """The provider's id in use: the first of the list that is still there."""
        alive = [i for i in self.settings.model_ids if i not in self.gone]
        return (alive or self.settings.model_ids)[0]

    def drop_model(self, model_id: str) -> bool:
        """The provider no longer has it; True where another id is left to try."""
        self.gone.add(model_id)
        return any(i not in self.gone for i in self.settings.model_ids)

    @property
    def secrets(self) -> list[str]:
        """What no text of the provider may bring back: the key, and values of further headers
        that are named like one."""
        more = self.settings.extra_headers.items()
        return [
            *([self.key] if self.key else []),
            *(value for name, value in more if SECRET_HEADER.search(name)),
        ]

    @property
    def textual(self) -> bool:
        """Whether tools are described to the model in the text, because it does not call them as
        OpenAI describes it."""
        wanted = self.settings.tool_calling
        return not (self.preset.calls_tools(self.model_id) if wanted is None else wanted)

    def headers(self) -> dict[str, str]:
        held = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        aim = self._aim()
        return held | dict(aim.headers if aim else {}) | self.settings.extra_headers

    def session_key(self, task_id: str, attempt: int) -> str | None:
        """The name under which the provider can be asked for that run; None where it has none."""
        return session_key(task_id, attempt) if self.preset.acts else None

    def limits(self, timeouts: Timeouts) -> Timeouts:
        """The deadlines of a call: an agent's silence of minutes is no failure."""
        if not (silence := self.preset.silence_s):
            return timeouts
        first, idle = max(timeouts.first_token_s, silence), max(timeouts.idle_s, silence)
        return timeouts.model_copy(update={"first_token_s": first, "idle_s": idle})

    def _aim(self) -> Target | None:
        if not self.preset.acts:
            return None
        return target(self.model_id, self.settings.extra_headers)

    def chat_body(self, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """The body of a streaming chat call. What the settings say wins over the parameters,
        and a mode of thinking that the task asks for over both."""
        messages = sendable(tools.fitted_messages(messages, self.preset.tools), self.preset)
        sent = self._sent(tools.fitted(params, self.preset.tools))
        body: dict[str, Any] = sent | {"messages": messages, "stream": True}
        if self._asks_usage and STREAM_OPTIONS not in self.refused:
            body[STREAM_OPTIONS] = {USAGE: True}
        body |= self.settings.extra_body
        mode = dict(self._mode(params) or {})
        if line := mode.pop(SYSTEM, None):
            body["messages"] = led_by(line, messages)
        aim = self._aim()
        return _merged(body, mode) | {"model": aim.model if aim else self.model_id}

    def embedding_body(self, texts: str | list[str], params: dict[str, Any]) -> dict[str, Any]:
        """The body of an embedding call."""
        own = {k: v for k, v in self.preset.embed_params.items() if k not in self.refused}
        body = own | self._sent(params) | {"input": texts}
        return body | self.settings.extra_body | {"model": self.model_id}

    def own_fields(self, path: str, params: dict[str, Any]) -> dict[str, Sequence[str]]:
        """The fields of such a body that neither the task nor the settings ask for, each with the
        words by which a provider that does not know it may name it."""
        own: dict[str, Sequence[str]] = {}
        if path == EMBEDDINGS:
            sent = self._sent(params)
            own = {name: (name,) for name in self.preset.embed_params if name not in sent}
        elif self._asks_usage and self.settings.usage == "auto":
            own = {STREAM_OPTIONS: (STREAM_OPTIONS, USAGE)}
        taken = self.refused | self.settings.extra_body.keys()
        return {name: words for name, words in own.items() if name not in taken}

    @property
    def _asks_usage(self) -> bool:
        wanted = self.settings.usage
        return self.preset.ask_usage if wanted == "auto" else wanted == STREAM_OPTIONS

    def batches(self, texts: str | list[str]) -> list[str | list[str]]:
        """The texts in portions that one embedding call takes."""
        size = self.preset.embed_batch
        if isinstance(texts, str):
            return [texts]
        return [texts[start : start + size] for start in range(0, len(texts), size)]

    def warnings(self, params: dict[str, Any]) -> list[str]:
        """Sentences for people on the parameters that are not sent as given."""
        found = []
        mode, switch = params.get(THINKING), self.preset.switch(self.model_id)
        who = f"{self.model_id} at {self.name}"
        if isinstance(mode, str) and self._mode(params) is None:
            found.append(
                f"{who} has no switch for thinking, so thinking {mode[:NAME_CHARS]!r} was left out"
            )
        elif isinstance(mode, str) and mode == "off" and switch.lowers:
            found.append(
                f"{who} cannot stop thinking, so it was asked to think as little as it can"
            )
        elif mode is not None and not isinstance(mode, str) and not self._takes_raw(mode):
            found.append(f"{who} takes no thinking object, so it was left out; say on, off or auto")
        if without := tools.left_out(params, self.preset.tools):
            found.append(f"{who} does not take {' and '.join(without)}; left out")
        given = (name for name in _given(params) if name != THINKING)
        left = sorted(name for name in given if not self._takes(name, params))
        if left:
            names = ", ".join(name[:NAME_CHARS] for name in left[:NAMES])
            more = f" and {len(left) - NAMES} more" if len(left) > NAMES else ""
            found.append(f"{who} does not take {names}{more} as given; left out")
        return found

    def thinks(self, params: dict[str, Any]) -> bool:
        """Whether the model's prompt may end with the opening tag of its thinking, so that its
        text begins as thinking without a tag."""
        template = [holder.get(TEMPLATE) for holder in (params, self.settings.extra_body)]
        if any(isinstance(given, dict) and True in given.values() for given in template):
            return True
        if re.search(THINKERS[0], self.model_id, re.IGNORECASE):
            return True
        switch = self.preset.switch(self.model_id)
        return switch.opens and (switch.off is None or params.get(THINKING) == "on")

    def _mode(self, params: dict[str, Any]) -> Mapping[str, Any] | None:
        """The fields that the mode of thinking adds; None where no mode can be chosen."""
        mode = params.get(THINKING)
        return self.preset.switch(self.model_id).body(mode) if isinstance(mode, str) else {}

    def _takes_raw(self, value: Any) -> bool:
        return isinstance(value, dict) and self.preset.switch(self.model_id).raw

    def _takes(self, name: str, params: dict[str, Any]) -> bool:
        if name == THINKING:
            return self._takes_raw(params[name])
        return self.preset.takes(name, params[name])

    def _sent(self, params: dict[str, Any]) -> dict[str, Any]:
        called = self.preset.called
        taken = [name for name in _given(params) if self._takes(name, params)]
        # Who gives both names means the one that the provider knows.
        taken.sort(key=lambda name: name == called(name))
        return {called(name): params[name] for name in taken}


def _given(params: Mapping[str, Any]) -> list[str]:
    """The parameters that say something: null is the same as left out, and so is a list of no
    tools, which strict providers refuse, with what chooses among them."""
    no_tools = not params.get("tools")
    return [
        name
        for name, value in params.items()
        if value is not None and not (name in TOOLS and no_tools and "tools" in params)
    ]


def named_in(own: Mapping[str, Sequence[str]], status: int, body: bytes) -> frozenset[str]:
    """The fields of `own` that a refusal with that status and body names."""
    if status not in (400, 422):
        return frozenset()
    text = body.decode(errors="replace").lower()
    return frozenset(name for name, words in own.items() if any(word in text for word in words))


def _merged(body: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`more` over `body`; objects in both are merged as well."""
    merged = dict(body)
    for name, value in more.items():
        held = merged.get(name)
        both = isinstance(held, dict) and isinstance(value, dict)
        merged[name] = held | value if both else value
    return merged


JOINT = "\n"
"""What stands between two text parts that become one string."""
CALL = frozenset({"id", "type", "function"})
"""What makes a tool call: no preset can refuse these."""

FUNCTION = "function"

Message = dict[str, Any]


def sendable(messages: Sequence[Message], preset: Preset) -> list[Message]:
    """The messages as that provider takes them."""
    if FUNCTION in preset.roles:
        messages = _with_tools(messages)
    return [_message(message, preset) for message in messages]


def led_by(line: str, messages: list[Message]) -> list[Message]:
    """The messages with that line before everything that the first system message says."""
    first: Message = messages[0] if messages else {}
    text = first.get("content")
    if first.get("role") == "system" and isinstance(text, str):
        return [first | {"content": f"{line}\n\n{text}"}, *messages[1:]]
    if first.get("role") == "system" and isinstance(text, list):
        parts = [{"type": "text", "text": f"{line}\n\n"}, *text]
        return [first | {"content": parts}, *messages[1:]]
    return [{"role": "system", "content": line}, *messages]


def _message(message: Message, preset: Preset) -> Message:
    sent = {
        name: value
        for name, value in message.items()
        if name == "content"
        or not (value is None or value == [] or name in preset.drop_in_messages)
    }
    role = message.get("role")
    if isinstance(role, str) and role != FUNCTION:
        sent["role"] = preset.roles.get(role, role)
    if isinstance(calls := sent.get("tool_calls"), list):
        sent["tool_calls"] = [_call(call, preset) for call in calls]
    if isinstance(call := sent.get("function_call"), dict):
        sent["function_call"] = _without_nulls(call)
    if "content" in sent:
        sent["content"] = _content(sent, preset)
    return sent


def _with_tools(messages: Sequence[Message]) -> list[Message]:
    """The messages with tool calls in place of `function_call`, and with their results: the older
    way has no ids, and each result answers the latest call of that name."""
    ids: dict[str, str] = {}
    found = []
    for number, message in enumerate(messages):
        call = message.get("function_call")
        name = call.get("name") if isinstance(call, dict) else message.get("name")
        if not isinstance(name, str):
            pass
        elif isinstance(call, dict) and not message.get("tool_calls"):
            made = ids[name] = f"call_{number}"
            message = {k: v for k, v in message.items() if k != "function_call"}
            message["tool_calls"] = [{"id": made, "type": FUNCTION, FUNCTION: call}]
        elif message.get("role") == FUNCTION and name in ids:
            kept = {k: v for k, v in message.items() if k != "name"}
            message = kept | {"role": "tool", "tool_call_id": ids[name]}
        found.append(message)
    return found


def _content(message: Message, preset: Preset) -> Any:
    content = message["content"]
    if content is None or content == []:
        # Null is lawful beside tool calls alone; elsewhere strict providers want a string.
        calls = "tool_calls" in message or "function_call" in message
        return None if calls and message.get("role") == "assistant" else ""
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content]
    texts = [part["text"] for part in parts if _is_text(part)]
    if preset.join_text and len(texts) == len(parts):
        return JOINT.join(texts)
    return parts


def _is_text(part: Any) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in part.items()
        if value is not None
    }


def _call(call: Any, preset: Preset) -> Any:
    if not isinstance(call, dict):
        return call
    sent = {
        name: value
        for name, value in call.items()
        if name in CALL or not (value is None or name in preset.drop_in_messages)
    }
    if isinstance(function := sent.get("function"), dict):
        sent["function"] = _without_nulls(function)
    return sent


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if inner is not None}
