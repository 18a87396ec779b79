"""The models of the settings: which can be used, and what the others lack.

Owns the building of upstreams and gates from settings and environment. Promises that a model
without its key is listed as disabled with the variable that it lacks. Never keeps a key
anywhere but in its upstream.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from asyncsvc.errors import ModelNotFound, NoModel, SettingsError
from asyncsvc.providers.adaptive import CONCURRENCY_START, RPM_START, Adaptive
from asyncsvc.providers.breaker import Breaker
from asyncsvc.providers.budget import Budget
from asyncsvc.providers.dialects import PLAIN, PRESETS
from asyncsvc.providers.gate import Gate
from asyncsvc.providers.upstream import Upstream
from asyncsvc.providers.window import Window
from asyncsvc.settings import Model, Settings


class Catalogue:
    """All models by name. Raises SettingsError for what only shows when they are built."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.upstreams: list[Upstream] = []
        self.disabled: dict[str, str] = {}
        """Why a model cannot be used, for people."""
        faults = []
        for name, model in settings.models.items():
            try:
                reason = self._missing(model, environ)
                if reason is None:
                    self.upstreams += self._build(name, model, environ)
                else:
                    self.disabled[name] = reason
            except ValueError as error:
                faults.append(f"models.{name}.{error}")
        if faults:
            raise SettingsError(faults)
        self._named = {
            name: [upstream for upstream in self.upstreams if upstream.name == name]
            for name in settings.models
        }

    def of(self, name: str) -> list[Upstream]:
        """The upstreams of one model, one a key."""
        return self._named.get(name, [])

    def lacking(self) -> dict[str, str]:
        """Why a model cannot be used, from the start or since its provider refused for good."""
        found = dict(self.disabled)
        for upstream in self.upstreams:
            if all(each.gate.fault for each in self.of(upstream.name)):
                found[upstream.name] = str(upstream.gate.fault)
        return found

    def require(self, name: str | None, kind: str) -> None:
        """Raises ModelNotFound or NoModel where no task of that kind can be served."""
        if name is not None and name not in self.settings.models:
            known = ", ".join(self.settings.models) or "none"
            raise ModelNotFound(f"there is no model {name!r}; known: {known}", param="model")
        for upstream in self.upstreams if name is None else self._named.get(name, ()):
            if not upstream.gate.fault and (name or upstream.settings.type == kind):
                return
        lacking = self.lacking()
        if name is not None:
            raise NoModel(f"model {name} is disabled: {lacking[name]}", retry_after=60)
        lacks = "; ".join(
            f"{other}: {why}"
            for other, why in lacking.items()
            if self.settings.models[other].type == kind
        )
        raise NoModel(
            f"no {kind} model is enabled. {lacks or 'The settings name none'}", retry_after=60
        )

    def restore(self, calls: list[tuple[str, int, int]], now_ms: int) -> None:
        """Enter the calls that earlier processes have begun into windows and budgets."""
        for upstream in self.upstreams:
            gate = upstream.gate
            gate.restore([((now_ms - at) / 1000, n) for name, at, n in calls if name == gate.name])

    def learned(self, kept: dict[str, Any]) -> None:
        """Let the gates go on with the limits that earlier processes have learned, by gate."""
        for upstream in self.upstreams:
            if upstream.gate.name in kept:
                upstream.gate.learned(kept[upstream.gate.name])

    def longest_window_s(self) -> float:
        return max((u.settings.rpm_window_s for u in self.upstreams), default=60.0)

    @staticmethod
    def _missing(model: Model, environ: Mapping[str, str]) -> str | None:
        if not model.enabled:
            return "enabled = false in the settings"
        if model.protocol != "openai":
            return f"protocol {model.protocol!r} is not available in this version"
        variables = model.key_variables
        if variables and not any(environ.get(v, "").strip() for v in variables):
            return f"{' or '.join(variables)} is not set"
        return None

    @staticmethod
    def _keys(model: Model, environ: Mapping[str, str]) -> Iterator[str]:
        for variable in model.key_variables:
            # Secrets read from a file often end in a line feed.
            key = environ.get(variable, "").strip()
            if not (key.isascii() and key.isprintable()):
                raise ValueError(
                    f"api_key_env: {variable} holds characters that no HTTP header can carry"
                )
            if key:
                yield key

    def _build(self, name: str, model: Model, environ: Mapping[str, str]) -> Iterator[Upstream]:
        if model.preset is not None and model.preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise ValueError(f"preset: unknown preset {model.preset!r}; known: {known}")
        preset = PRESETS[model.preset] if model.preset else PLAIN
        base_url = model.base_url or preset.base_url
        if base_url is None:
            raise ValueError("base_url: is required where there is no preset")
        keys = list(self._keys(model, environ))
        for index, key in enumerate(keys or [None], 1):
            gate = self._gate(name if len(keys) <= 1 else f"{name}#{index}", model)
            yield Upstream(name, model, preset, gate, base_url, key)

    def _gate(self, name: str, model: Model) -> Gate:
        settings, span_s = self.settings, model.rpm_window_s
        at_once, rate = model.concurrency, model.rpm
        return Gate(
            name,
            concurrency=CONCURRENCY_START if at_once == "auto" else at_once,
            window=Window(RPM_START if rate == "auto" else rate, span_s),
            budget=Budget(model.tpm, span_s),
            adaptive=Adaptive.of(at_once == "auto", rate == "auto", span_s),
            breaker=Breaker(settings.breaker.failures, settings.breaker.cooldown_s),
            retry_base_s=settings.retry.base_s,
            retry_max_s=settings.retry.max_s,
        )
