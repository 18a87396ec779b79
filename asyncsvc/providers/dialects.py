"""What is particular about each provider, as data.

Owns the presets: base URL, parameters that must be dropped or renamed, whether usage must be
asked for, whether a call may have acted on the world. Facts: the vendors' documentation and
public issues, November 2026. Never holds a branch on a provider's name: the client reads the
fields.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider's dialect of OpenAI's API."""

    base_url: str | None = None
    ask_usage: bool = True
    """Whether `stream_options.include_usage` is understood; others send usage anyway."""
    drop: frozenset[str] = frozenset()
    rename: dict[str, str] = field(default_factory=dict)
    acts: bool = False
    """A call is a whole agent run: cut off, it may already have done something."""
    empty_answers: frozenset[str] = frozenset()
    """Texts that stand for no answer."""


PRESETS: dict[str, Preset] = {
    "openai": Preset("https://api.openai.com/v1"),
    "zhipu": Preset(
        "https://open.bigmodel.cn/api/paas/v4",
        ask_usage=False,
        drop=frozenset(
            {"frequency_penalty", "presence_penalty", "thinking_budget", "stream_options"}
        ),
        rename={"max_completion_tokens": "max_tokens"},
    ),
    "hunyuan": Preset("https://api.hunyuan.cloud.tencent.com/v1"),
    "tencent-tokenhub": Preset("https://tokenhub.tencentmaas.com/v1"),
    "nvidia": Preset(
        "https://integrate.api.nvidia.com/v1",
        drop=frozenset({"prompt_cache_key", "frequency_penalty", "presence_penalty", "n", "user"}),
    ),
    "siliconflow": Preset("https://api.siliconflow.cn/v1"),
    "deepseek": Preset("https://api.deepseek.com"),
    "moonshot": Preset("https://api.moonshot.cn/v1"),
    "dashscope": Preset("https://dashscope.aliyuncs.com/compatible-mode/v1"),
    "openrouter": Preset("https://openrouter.ai/api/v1"),
    "ollama": Preset("http://localhost:11434/v1"),
    "vllm": Preset("http://localhost:8000/v1"),
    "llama.cpp": Preset("http://127.0.0.1:8080/v1"),
    "openclaw": Preset(
        "http://127.0.0.1:18789/v1",
        drop=frozenset({"user", "n"}),
        acts=True,
        empty_answers=frozenset({"No response from OpenClaw."}),
    ),
}
PLAIN = Preset()
