"""Settings that are read again while the service runs: what takes effect when, what has changed.

Owns the table of effects below, which a test holds against the settings' fields and the
documentation is made from. Promises that a difference shows no secret. Never reads a
file, and never applies anything but to the settings themselves.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from asyncsvc.config.secrets import HIDDEN, is_variable
from asyncsvc.config.settings import Client, Model, Settings


class Effect(StrEnum):
    """When a value that was changed in the file takes effect after a reload."""

    AT_ONCE = "at once"
    NEXT_CALL = "next call"
    NEXT_START = "next start of a task"
    RESTART = "restart"


_A, _C, _S, _R = Effect.AT_ONCE, Effect.NEXT_CALL, Effect.NEXT_START, Effect.RESTART

EFFECTS: Mapping[str, Mapping[str, Effect]] = {
    "server": {
        "host": _R,
        "port": _R,
        "auth_tokens_env": _R,
        "allowed_origins": _R,
        "certfile": _R,
        "keyfile": _R,
        "trusted_proxies": _R,
        "max_connections": _R,
        "max_subscriptions": _A,
        "max_subscriptions_per_socket": _A,
        "keep_alive_s": _R,
        "client_timeout_s": _R,
        "wrong_tokens": _R,
        "grace_s": _A,
    },
    "storage": {"path": _R, "retention_days": _A, "max_file_bytes": _A, "max_files_mb": _A},
    "queue": {"max_length": _A, "max_task_bytes": _A, "ttl_s": _A, "weights": _A},
    "timeouts": {
        "short_s": _S,
        "long_s": _S,
        "connect_s": _C,
        "first_token_s": _C,
        "idle_s": _C,
    },
    "retry": {"max_retries": _A, "base_s": _A, "max_s": _A},
    "breaker": {"failures": _A, "cooldown_s": _A},
    "cache": {"enabled": _A, "ttl_s": _A, "max_bytes": _A, "across_owners": _A},
    "limits": {
        "memory_mb": _A,
        "disk_free_mb": _A,
        "loop_lag_ms": _A,
        "fds_share": _A,
        "answer_mb": _A,
    },
    "tools": {
        "enabled": _R,
        "workspace": _R,
        "timeout_s": _R,
        "max_output_bytes": _R,
        "exec_allow": _R,
        "fetch_allow": _R,
        "approve": _A,
        "checkpoint_mb": _A,
        "unsafe_no_sandbox": _R,
        "mcp": _R,
    },
    "webhooks": {
        "secret_env": _R,
        "allow": _R,
        "at_once": _R,
        "per_host": _R,
        "timeout_s": _R,
        "retry_s": _R,
    },
    "log": {"level": _A, "format": _A, "prompts": _A},
    "otel": {"endpoint": _R, "prompts": _A},
    "clients": {
        "token_env": _A,
        "token_sha256": _A,
        "scopes": _A,
        "max_unfinished": _A,
        "rpm": _A,
    },
    "models": {
        "enabled": _C,
        "type": _C,
        "protocol": _C,
        "preset": _C,
        "base_url": _C,
        "api_key_env": _C,
        "api_key_envs": _C,
        "model": _C,
        "usage": _C,
        "tool_calling": _C,
        "aliases": _A,
        "concurrency": _C,
        "rpm": _C,
        "rpm_window_s": _C,
        "tpm": _C,
        "context": _C,
        "good_at": _C,
        "weight": _C,
        "extra_body": _C,
        "extra_headers": _C,
    },
    "routing": {"balance": _C},
    "routes": {
        "simple": _C,
        "realtime": _C,
        "reasoning": _C,
        "batch": _C,
        "general": _C,
        "embedding": _C,
    },
}
"""Each key of each section; those of `clients` and `models` stand for any one of these."""
NAMED: Mapping[str, tuple[str, type[BaseModel]]] = {
    "clients": ("client ", Client),
    "models": ("", Model),
}
"""The sections that hold a table for each name: the word before a name, and what a table is."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reload has changed. Of what needs a restart the old value stays in force."""

    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """From and to, by the key's full name."""
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    needs_restart: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    """Names of the variables of the `.env` file that have changed."""
    enabled: list[str] = field(default_factory=list)
    """Models that can be used again, or now."""
    disabled: dict[str, str] = field(default_factory=dict)
    """Models that can no longer be used, and why."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "changed": self.changed,
            "added": self.added,
            "removed": self.removed,
            "needs_restart": self.needs_restart,
            "variables": self.variables,
            "enabled": self.enabled,
            "disabled": self.disabled,
        }

    def __str__(self) -> str:
        """One line, for the log."""
        parts = [f"{key} {its['from']!r} -> {its['to']!r}" for key, its in self.changed.items()]
        parts += [f"{_named(name)} added" for name in self.added]
        parts += [f"{_named(name)} removed" for name in self.removed]
        parts += [f"{key} needs a restart" for key in self.needs_restart]
        parts += [f"{name} has changed in .env" for name in self.variables]
        parts += [f"model {name} can be used" for name in self.enabled]
        parts += [f"model {name} is disabled: {why}" for name, why in self.disabled.items()]
        return "; ".join(parts) or "nothing has changed"


def _named(name: str) -> str:
    """A name of `added` with what it is; the name of a model has no space."""
    return name if " " in name else f"model {name}"


def difference(old: Settings, new: Settings) -> Difference:
    """From the settings in force to those that were read."""
    found = Difference()
    for section, effects in EFFECTS.items():
        if section in NAMED:
            word, before, after = NAMED[section][0], getattr(old, section), getattr(new, section)
            found.added.extend(f"{word}{name}" for name in after if name not in before)
            found.removed.extend(f"{word}{name}" for name in before if name not in after)
            for name in [name for name in after if name in before]:
                _compare(f"{section}.{name}", before[name], after[name], effects, found)
        else:
            _compare(section, getattr(old, section), getattr(new, section), effects, found)
    return found


def adopt(settings: Settings, new: Settings) -> None:
    """Let the settings in force be the new ones, but for what needs a restart."""
    stays = {
        f"{section}.{key}"
        for section, effects in EFFECTS.items()
        for key, effect in effects.items()
        if effect is _R
    }
    old, sources = dict(settings.sources), settings.sources
    sources.clear()
    sources.update({name: source for name, source in old.items() if name in stays})
    sources.update({name: s for name, s in new.sources.items() if name not in stays})
    for section, effects in EFFECTS.items():
        if section in NAMED:
            setattr(settings, section, getattr(new, section))
            continue
        there: BaseModel = getattr(new, section)
        live = {key: getattr(there, key) for key, effect in effects.items() if effect is not _R}
        setattr(settings, section, getattr(settings, section).model_copy(update=live))


def _compare(
    where: str, old: BaseModel, new: BaseModel, effects: Mapping[str, Effect], found: Difference
) -> None:
    for key, effect in effects.items():
        before, after = getattr(old, key), getattr(new, key)
        if before == after:
            continue
        if effect is Effect.RESTART:
            found.needs_restart.append(f"{where}.{key}")
        else:
            change = {"from": shown(key, before), "to": shown(key, after)}
            found.changed[f"{where}.{key}"] = change


def read_at_the_start(settings: Settings, variables: Iterable[str]) -> list[str]:
    """Return those of the variables whose values are read once, when the service starts."""
    once = {settings.server.auth_tokens_env, settings.webhooks.secret_env}
    return [name for name in variables if name in once]


def shown(key: str, value: Any) -> Any:
    """The value as far as it cannot be a secret, wherever a user may have put one."""
    if key in ("extra_body", "extra_headers", "mcp"):
        return dict.fromkeys(value, HIDDEN)
    if key == "token_sha256":
        return None if value is None else HIDDEN
    if key in ("api_key_env", "token_env"):
        return None if value is None else _variable(value)
    if key == "api_key_envs":
        return [_variable(name) for name in value]
    return value


def _variable(name: str) -> str:
    return name if is_variable(name) else HIDDEN


def in_force(settings: Settings) -> Iterator[tuple[tuple[str, ...], Any, FieldInfo, Effect]]:
    """The parts of each value's full name, the value as it may be shown, its field, its effect."""
    for section, effects in EFFECTS.items():
        tables: dict[tuple[str, ...], BaseModel] = {(section,): getattr(settings, section)}
        if section in NAMED:
            tables = {(section, name): one for name, one in getattr(settings, section).items()}
        for path, table in tables.items():
            for key, effect in effects.items():
                info = type(table).model_fields[key]
                yield (*path, key), shown(key, getattr(table, key)), info, effect


def fields() -> Iterator[tuple[str, frozenset[str]]]:
    """Each section of the settings with its keys, as the table should have them."""
    for section, info in Settings.model_fields.items():
        kind: Any = NAMED[section][1] if section in NAMED else info.annotation
        yield section, frozenset(kind.model_fields)
