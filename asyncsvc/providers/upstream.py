"""An upstream: one key of one model, with its gate.

Owns what is sent where: URL, headers, the request's body in the provider's dialect. Promises
that only known parameters and never a client's header reach the provider, and that a key is
in no representation of itself. Never sends anything.
"""

from dataclasses import dataclass, field
from typing import Any

from asyncsvc.providers.dialects import Preset
from asyncsvc.providers.gate import Gate
from asyncsvc.settings import Model


@dataclass(slots=True)
class Upstream:
    """One account; a model with several keys has several."""

    name: str
    settings: Model
    preset: Preset
    gate: Gate
    base_url: str
    key: str | None = field(default=None, repr=False)
    gone: set[str] = field(default_factory=set)
    """Ids of which the provider said that they are no more."""

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
        return [self.key] if self.key else []

    def headers(self) -> dict[str, str]:
        held = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return held | self.settings.extra_headers

    def chat_body(self, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """The body of a streaming chat call."""
        body = self._params(params) | {"messages": messages, "stream": True}
        if self.preset.ask_usage:
            body["stream_options"] = {"include_usage": True}
        return body | self.settings.extra_body | {"model": self.model_id}

    def embedding_body(self, texts: str | list[str], params: dict[str, Any]) -> dict[str, Any]:
        """The body of an embedding call."""
        body = self._params(params) | {"input": texts}
        return body | self.settings.extra_body | {"model": self.model_id}

    def _params(self, params: dict[str, Any]) -> dict[str, Any]:
        rename, drop = self.preset.rename, self.preset.drop
        return {rename.get(name, name): value for name, value in params.items() if name not in drop}
