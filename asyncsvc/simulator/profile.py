"""Profiles of the simulated provider: its models with their limits, speed and faults, in TOML.

A profile is a value. A wrong one is refused with one line per mistake, naming the key.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from asyncsvc.simulator.faults import FaultSyntaxError, parse_fault


class ProfileError(ValueError):
    """A profile that cannot be used; the message has one line per mistake."""


class ModelSettings(BaseModel):
    """How one simulated model behaves. Times are seconds, 0 means none or unlimited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["any", "chat", "embedding"] = "any"
    concurrency: int = Field(0, ge=0, description="calls in flight at once; 0 = unlimited")
    rpm: int = Field(0, ge=0, description="calls in any window of window_s; 0 = unlimited")
    window_s: float = Field(60.0, gt=0)
    first_token_s: float = Field(0.0, ge=0)
    tokens_per_s: float = Field(0.0, ge=0, description="0 = as fast as possible")
    answer_tokens: int = Field(60, ge=1, le=1_000_000)
    reasoning_tokens: int = Field(0, ge=0, le=1_000_000)
    jitter: float = Field(0.0, ge=0, le=1, description="share by which each pause varies")
    network_jitter_s: float = Field(0.0, ge=0, description="most delay before the arrival counts")
    head: Literal["at_once", "first_token"] = "at_once"
    dimensions: int = Field(64, ge=1, le=65536)
    faults: dict[str, float] = Field(default_factory=dict)

    @field_validator("faults")
    @classmethod
    def _known_faults(cls, shares: dict[str, float]) -> dict[str, float]:
        for text, share in shares.items():
            try:
                parse_fault(text)
            except FaultSyntaxError as error:
                raise ValueError(str(error)) from None
            if not 0 <= share <= 1:
                raise ValueError(f"the share of {text!r} is {share}, allowed is 0 to 1")
        if sum(shares.values()) > 1 + 1e-9:
            raise ValueError(f"the shares add up to {sum(shares.values()):g}, allowed is at most 1")
        return shares


class ServerSettings(BaseModel):
    """What holds for the whole simulated provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: str | None = None
    any_model: bool = True
    seed: int = 0


class Profile(BaseModel):
    """A whole simulated provider. Keys that a model leaves out come from ``default``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: ServerSettings = ServerSettings()
    default: ModelSettings = ModelSettings()
    models: dict[str, ModelSettings] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a TOML file; raises ProfileError where it is missing, not TOML or not a profile."""
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ProfileError(f"{path}: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProfileError(f"{path}: not valid TOML: {error}") from None
        try:
            return cls.parse(data)
        except ProfileError as error:
            lines = str(error).splitlines()
            raise ProfileError("\n".join(f"{path}: {line}" for line in lines)) from None

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Self:
        """Validate the dictionary of a profile file; raises ProfileError, one line a mistake."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ProfileError(_lines(error)) from None

    @classmethod
    def builtin(cls) -> Self:
        """The provider that the demo runs against: limits as the real free tiers have them."""
        return cls.parse(
            {
                "default": {"first_token_s": 0.2, "tokens_per_s": 50, "jitter": 0.2},
                "models": {
                    "glm-4-flash": {"type": "chat", "concurrency": 1, "first_token_s": 0.3},
                    "hunyuan-lite": {"type": "chat", "concurrency": 5, "tokens_per_s": 30},
                    "nvidia-1": _nvidia(reasoning_tokens=24),
                    "nvidia-2": _nvidia(),
                    "bge-m3": {"type": "embedding", "concurrency": 5},
                },
            }
        )

    def settings_for(self, model: str) -> ModelSettings | None:
        """The settings of a model by name, None where this provider does not have it."""
        own = self.models.get(model)
        if own is not None:
            given = {key: getattr(own, key) for key in own.model_fields_set}
            return self.default.model_copy(update=given)
        return self.default if self.server.any_model else None

    def changed(self, changes: dict[str, Any]) -> Self:
        """A profile with some keys replaced; ``changes`` is shaped as the file, partial.

        Raises ProfileError and leaves this profile as it was where the result would be wrong.
        """
        data = self.model_dump(exclude_unset=True)
        for section, values in changes.items():
            if section == "models" and isinstance(values, dict):
                for name, keys in values.items():
                    _merge(data.setdefault("models", {}), name, keys)
            else:
                _merge(data, section, values)
        return self.parse(data)


def _nvidia(**more: int) -> dict[str, Any]:
    return {"type": "chat", "concurrency": 5, "rpm": 40, "first_token_s": 0.5, **more}


def _merge(into: dict[str, Any], name: str, keys: object) -> None:
    """Replace single keys; anything but a table is put in as it is, for validation to refuse."""
    old = into.get(name)
    into[name] = {**old, **keys} if isinstance(old, dict) and isinstance(keys, dict) else keys


def _lines(error: ValidationError) -> str:
    return "\n".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'profile'}: {_reason(item['type'], item)}"
        for item in error.errors()
    )


def _reason(kind: str, item: Any) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    message = str(item["msg"]).removeprefix("Value error, ")
    given = item["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return message[:1].lower() + message[1:] + shown
