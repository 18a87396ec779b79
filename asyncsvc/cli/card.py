"""What is known of a task from its events alone.

Owns how a reader of the stream keeps up. Promises that a new attempt voids the text before
it. Never asks the service for anything.
"""

from dataclasses import dataclass, field
from typing import Any

KEPT_CHARS = 20_000
"""Text kept of one task; a screen shows the end of it."""
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass
class Card:
    """A task as its stream tells it; `rate` is in tokens a second, `latency` in seconds."""

    task_id: str = ""
    status: str = "pending"
    name: str | None = None
    model: str | None = None
    text: str = ""
    thoughts: str = ""
    tokens: int | None = None
    rate: float | None = None
    position: int | None = None
    eta_s: float | None = None
    reason: str | None = None
    latency: float | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def take(self, event: dict[str, Any]) -> None:
        """Keep up with one event."""
        data = event["data"]
        match event["type"]:
            case "chunk":
                self.text = (self.text + data["text"])[-KEPT_CHARS:]
            case "reasoning":
                self.thoughts = (self.thoughts + data["text"])[-KEPT_CHARS:]
            case "attempt":
                self.name, self.model = data.get("name"), data.get("model")
                self.text = self.thoughts = ""
                self.tokens = self.rate = None
            case "progress" if not self.ended:
                self._progress(data)
            case "status":
                self._status(data)

    def _progress(self, data: dict[str, Any]) -> None:
        self.tokens = data.get("tokens", self.tokens)
        self.rate = data.get("tokens_per_s", self.rate)
        self.position, self.eta_s = data.get("position"), data.get("eta_s")
        self.reason = data.get("reason")

    def _status(self, data: dict[str, Any]) -> None:
        self.status = data["status"]
        self.error = data.get("error")
        self.position = self.eta_s = self.reason = None
        self.name = data.get("name") or self.name
        self.model = data.get("model") or self.model
        if self.status != "running":
            self.rate = None
        if self.ended:
            self.latency = data.get("latency")
            self.usage = data.get("usage") or {}
            self.tokens = self.usage.get("completion_tokens", self.tokens)

    @property
    def mean_rate(self) -> float | None:
        """Tokens a second over the whole attempt, once it is over."""
        tokens = self.usage.get("completion_tokens")
        return tokens / self.latency if tokens and self.latency else None
