"""What is particular about each provider, as data.

Owns the presets: address, thinking switch, parameters that are refused or called by another
name, how usage is asked for, which error table applies, how many texts one embedding call
takes. Facts: the vendors' documentation and public issues, November 2026. Never holds a branch
on a provider's name: the other modules read a field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.providers.answers.thinking import SWITCHES, Switch
from asyncsvc.providers.tools import Taken

SAMPLING = frozenset({"temperature", "top_p", "max_tokens", "stop", "seed"})
TOOLS = frozenset({"tools", "tool_choice"})
EMBEDDING = frozenset({"input_type", "truncate", "dimensions", "encoding_format"})

ROLES: Mapping[str, str] = {"developer": "system", "function": "tool"}
"""Roles that are sent under another name. OpenAI itself takes `system` wherever it takes
`developer`, and most others know `system` alone, so this holds for an unknown provider as well.
The role `function` belongs to the way of calling functions from before there were tools."""
ECHOED = frozenset({"annotations", "audio", "refusal", "citations", "images"})
"""Fields of an answer that clients send back with it; a model reads none of them."""
SIGNED = frozenset({"extra_content", "reasoning_details", "index"})
"""What one provider's next turn needs and a strict other one refuses."""

MODEL_HEADER = "x-openclaw-model"
AGENT_HEADER = "x-openclaw-agent-id"
SESSION_HEADER = "x-openclaw-session-key"
_AGENT = re.compile(r"(?:openclaw[/:]|agent:)(.+)|openclaw")
"""How a model id names an agent of a gateway."""

THINKERS = (r"-thinking|deepseek-r1|qwq", "always_on")
"""Models that can do nothing else, wherever they are served."""

NO_MODEL = r"(?!)"
"""A regular expression that fits no model id."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider's dialect of OpenAI's API."""

    base_url: str | None = None
    thinking: str = "none"
    thinking_by_id: tuple[tuple[str, str], ...] = ()
    """(regular expression on the model id, name of a switch); the first that fits counts."""
    allow: frozenset[str] | None = None
    """The only parameters that are sent; None: all but `drop`."""
    drop: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that are taken with this one value."""
    roles: Mapping[str, str] = field(default_factory=lambda: ROLES)
    """Roles of messages that the provider knows by another name."""
    drop_in_messages: frozenset[str] = frozenset()
    """Keys of a message, or of a tool call in it, that are refused."""
    join_text: bool = False
    """Whether content must be a string where it is nothing but text; parts are joined."""
    ask_usage: bool = True
    """Whether `stream_options.include_usage` is understood; others send usage anyway."""
    errors: str = "any"
    """The table in error_tables.py."""
    embed_batch: int = 64
    """Texts in one embedding call. The answer must fit into `limits.answer_mb`: 64 vectors
    of 4,096 numbers are about 6 MB."""
    embed_params: Mapping[str, Any] = field(default_factory=dict)
    """Sent with embedding calls unless the task says otherwise."""
    acts: bool = False
    """A call is a whole agent run: cut off, it may already have done something."""
    silence_s: float = 0.0
    """The least that a call may be silent, where that is the provider's way."""
    empty_answers: frozenset[str] = frozenset()
    """Texts that stand for no answer."""
    tools: Taken = field(default_factory=dict)
    """Kinds of tools beside `function` that the chat API takes, as `tools.py` reads them."""
    tool_calling: str = ""
    """Regular expression on the ids of the models that call tools as OpenAI describes it."""

    def switch(self, model_id: str) -> Switch:
        """The switch of thinking for a model id."""
        for pattern, name in self.thinking_by_id:
            if re.search(pattern, model_id, re.IGNORECASE):
                return SWITCHES[name]
        return SWITCHES[self.thinking]

    def calls_tools(self, model_id: str) -> bool:
        """Whether a model calls tools as OpenAI describes them."""
        return re.search(self.tool_calling, model_id, re.IGNORECASE) is not None

    def called(self, parameter: str) -> str:
        """The provider's name for it."""
        return self.rename.get(parameter, parameter)

    def takes(self, parameter: str, value: Any = None) -> bool:
        """Whether it is sent at all; `allow` has the provider's names, the others the client's."""
        if self.allow is not None and self.called(parameter) not in self.allow:
            return False
        if parameter in self.only and value != self.only[parameter]:
            return False
        return parameter not in self.drop


PRESETS: dict[str, Preset] = {
    "openai": Preset(
        "https://api.openai.com/v1",
        thinking_by_id=((r"^(gpt-[5-9]|o\d)", "effort"),),
        # Reasoning models refuse the old name; all take the new one.
        rename={"max_tokens": "max_completion_tokens"},
        roles={},
        drop_in_messages=SIGNED | {"reasoning_content", "reasoning", "citations", "images"},
        errors="openai",
        embed_batch=96,
        tools={"custom": None},
    ),
    "zhipu": Preset(
        "https://open.bigmodel.cn/api/paas/v4",
        # From 4.5 on a turn can be switched; older ones do not know the parameter, and 5.3
        # cannot stop.
        thinking_by_id=(
            (r"glm-5\.[3-9]", "effort"),
            (r"glm-(4\.[5-9]|[5-9])", "glm"),
        ),
        drop=frozenset(
            {"stream_options", "frequency_penalty", "presence_penalty", "thinking_budget"}
        ),
        rename={"max_completion_tokens": "max_tokens"},
        only={"tool_choice": "auto"},
        drop_in_messages=ECHOED | SIGNED | {"name"},
        join_text=True,
        ask_usage=False,
        errors="zhipu",
        tools={"web_search": {"enable": True}, "retrieval": None, "mcp": None},
    ),
    "hunyuan": Preset(
        "https://api.hunyuan.cloud.tencent.com/v1",
        thinking_by_id=((r"hunyuan-a13b", "enable_thinking"), (r"hunyuan-t1", "always_on")),
        drop_in_messages=ECHOED | SIGNED,
        join_text=True,
        errors="hunyuan",
        # Lite, standard, large and those that see take the parameter and call nothing.
        tool_calling=r"^hunyuan-(turbo|pro|functioncall)(?!.*vision)",
    ),
    "tencent-tokenhub": Preset(
        "https://tokenhub.tencentmaas.com/v1",
        thinking="effort_absent",
        only={"tool_choice": "auto"},
        drop_in_messages=ECHOED | SIGNED,
        join_text=True,
        errors="tokenhub",
    ),
    "nvidia": Preset(
        "https://integrate.api.nvidia.com/v1",
        thinking_by_id=(
            THINKERS,
            (r"llama-.*nemotron", "system_line"),
            (r"nemotron-(3|nano-3)|glm-?[5-9]", "template_enable"),
            (r"deepseek-v(3\.[12]|[4-9])|kimi-k(2\.[5-9]|[3-9])", "template_thinking"),
            (r"gpt-oss", "effort"),
        ),
        # The schema is strict: unknown fields are refused with 400 or 422.
        allow=SAMPLING
        | TOOLS
        | EMBEDDING
        | {"response_format", "chat_template_kwargs", "reasoning_budget", "reasoning_effort"},
        rename={"max_completion_tokens": "max_tokens"},
        drop_in_messages=ECHOED | SIGNED,
        join_text=True,
        errors="nvidia",
        embed_params={"input_type": "passage"},
    ),
    "siliconflow": Preset(
        "https://api.siliconflow.cn/v1",
        thinking="enable_thinking",
        thinking_by_id=(THINKERS, (r"instruct|coder", "none")),
        drop_in_messages=ECHOED | SIGNED,
        join_text=True,
        errors="siliconflow",
        embed_batch=32,
    ),
    "deepseek": Preset(
        "https://api.deepseek.com",
        thinking="glm",
        # Its reader of JSON knows strings alone: "invalid type: sequence, expected a string".
        drop_in_messages=ECHOED | SIGNED,
        join_text=True,
        errors="openai",
    ),
    "moonshot": Preset(
        "https://api.moonshot.cn/v1",
        thinking_by_id=(
            THINKERS,
            (r"kimi-k[3-9]", "effort"),
            (r"kimi-k2\.[5-9]", "glm"),
        ),
        drop_in_messages=ECHOED | SIGNED,
        join_text=True,
        errors="openai",
        tools={"builtin_function": None},
    ),
    "dashscope": Preset(
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        thinking="enable_thinking",
        thinking_by_id=(THINKERS,),
        errors="dashscope",
        embed_batch=10,
    ),
    "openrouter": Preset(
        "https://openrouter.ai/api/v1",
        thinking="openrouter",
        errors="openrouter",
        tools={"openrouter:web_search": None, "openrouter:datetime": None},
    ),
    "ollama": Preset(
        "http://localhost:11434/v1", thinking="effort", join_text=True, errors="openai"
    ),
    "vllm": Preset(
        "http://localhost:8000/v1",
        thinking="template_enable",
        thinking_by_id=(THINKERS, (r"deepseek|granite|kimi", "template_thinking")),
        # Many chat templates know strings alone.
        join_text=True,
        errors="openai",
    ),
    "llama.cpp": Preset(
        "http://127.0.0.1:8080/v1", thinking="template_enable", join_text=True, errors="openai"
    ),
    "openclaw": Preset(
        "http://127.0.0.1:18789/v1",
        # `user` would tie our clients' calls to one of the gateway's sessions.
        allow=SAMPLING | {"max_completion_tokens"},
        tool_calling=NO_MODEL,  # the gateway's own agent has the gateway's tools
        roles={},
        drop_in_messages=ECHOED | SIGNED,
        errors="openclaw",
        acts=True,
        # No keep-alive; rate-limited by its own provider it was silent for 168 s.
        silence_s=600.0,
        empty_answers=frozenset({"No response from OpenClaw."}),
    ),
}
PLAIN = Preset(thinking="unknown")
"""A provider of which nothing is known but its address."""


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
