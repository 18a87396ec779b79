"""What the demo plays with: four tasks, five models, and how lively their provider is.

Owns the demo's settings, which are made here so that nothing in the environment can break it.
Names no model: the tasks are routed. Promises a play of about eight seconds. Never opens anything.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncsvc.cli.card import Card
from asyncsvc.config.settings import Settings
from asyncsvc.simulator import Profile

MODELS: dict[str, dict[str, Any]] = {
    "zhipu": {"model": "glm-4-flash", "concurrency": 1, "good_at": ["realtime"]},
    "hunyuan": {
        "model": "hunyuan-lite",
        "concurrency": 5,
        "good_at": ["simple", "batch", "general"],
    },
    "nvidia1": {
        "model": "nvidia/nemotron-3-super-120b-a12b",
        "concurrency": 5,
        "rpm": 40,
        "good_at": ["reasoning"],
    },
    "nvidia2": {
        "model": "nvidia/nemotron-nano-3-30b-a3b",
        "concurrency": 5,
        "rpm": 40,
        "good_at": ["simple", "general"],
    },
    "siliconflow": {"type": "embedding", "model": "BAAI/bge-m3", "concurrency": 5, "rpm": 5},
}
LIVELINESS: dict[str, dict[str, Any]] = {
    "zhipu": {"first_token_s": 0.3, "tokens_per_s": 30, "answer_tokens": 60},
    "hunyuan": {"first_token_s": 0.4, "tokens_per_s": 26, "answer_tokens": 150},
    "nvidia1": {
        "first_token_s": 0.6,
        "tokens_per_s": 32,
        "reasoning_tokens": 40,
        "answer_tokens": 170,
    },
}


@dataclass
class Part:
    """One task of the demo, as it is submitted and as it goes."""

    title: str
    content: str
    lane: str = "short"
    card: Card = field(default_factory=Card)

    @property
    def fields(self) -> dict[str, Any]:
        return {"content": self.content, "lane": self.lane}


def parts() -> list[Part]:
    """The four sample tasks, anew."""
    batch = ("今天天气很好。", "我们一起去公园散步吧。", "这本书值得再读一遍。")
    lines = "\n".join(f"{number}. {line}" for number, line in enumerate(batch, 1))
    return [
        Part("1 问候", "现在马上回答：你好", "priority"),
        Part("2 提问", "什么是AI？"),
        Part("3 分析", "深入分析人工智能对社会的影响"),
        Part("4 翻译", f"翻译第1句到第3句，译成英文：\n{lines}", "long"),
    ]


def profile() -> Profile:
    """The simulated provider: the same limits as the models' settings, and their pace."""
    models = {}
    for name, settings in MODELS.items():
        limits = {key: settings[key] for key in ("concurrency", "rpm") if key in settings}
        kind = {"type": settings.get("type", "chat")}
        models[settings["model"]] = kind | limits | LIVELINESS.get(name, {})
    return Profile.parse({"default": {"jitter": 0.4}, "models": models})


def settings(base_url: str, port: int, database: Path) -> Settings:
    """The service's settings, with every model at the simulated provider."""
    models = {name: given | {"base_url": base_url} for name, given in MODELS.items()}
    return Settings.model_validate(
        {
            "server": {"port": port, "grace_s": 0},
            "storage": {"path": str(database)},
            "models": models,
        }
    )
