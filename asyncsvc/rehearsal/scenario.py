"""The settings of a rehearsal: those of today, and those to be tried.

A model whose key this environment does not have takes part where it served tasks in the past, or
where only the new settings have it or have changed it: no call is made, so the key itself is of
no use here.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncsvc.config.load import load, variable_of
from asyncsvc.config.settings import Model, Settings
from asyncsvc.errors import SettingsError

STAND_IN = "rehearsed"
"""What stands in the place of a key."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings, and an environment with something in the place of each key that counts as set."""

    settings: Settings
    environ: Mapping[str, str]


def present(file: Path | None, environ: Mapping[str, str], served: Collection[str]) -> Scenario:
    """The settings file of today. Raises SettingsError."""
    settings = load(file, environ)
    return Scenario(settings, _with_keys(settings, environ, served))


def changed(
    now: Scenario,
    file: Path | None,
    environ: Mapping[str, str],
    served: Collection[str],
    values: Iterable[str],
    model: str | None,
) -> Scenario:
    """The settings to be tried: those of the file, with single `values` as KEY=VALUE, and with one
    more account of a model. Raises SettingsError."""
    given = dict(environ) | dict(map(_variable, values))
    settings = load(file, given)
    keyed = set(served)
    if model is not None:
        if model not in settings.models:
            known = ", ".join(settings.models) or "none"
            raise SettingsError([f"there is no model {model!r}; known: {known}"])
        if not settings.models[model].enabled:
            raise SettingsError([f"models.{model}.enabled is false: it takes no tasks"])
        if _takes_part(settings.models[model], environ) or model in served:
            more = _one_more_account(settings.models[model], model, environ)
            models = settings.models | {model: more}
            settings = settings.model_copy(update={"models": models})
        else:
            keyed.add(model)  # it has no account today: this is the one more
    before = now.settings.models
    keyed.update(name for name, one in settings.models.items() if before.get(name) != one)
    return Scenario(settings, _with_keys(settings, given, keyed))


def _variable(text: str) -> tuple[str, str]:
    """The variable that sets a value, for `models.zhipu.rpm=60`."""
    key, sign, value = text.partition("=")
    parts = key.strip().split(".")
    if not sign or len(parts) < 2:
        raise SettingsError([f"{text!r} must be KEY=VALUE, such as models.zhipu.rpm=60"])
    if parts[0] == "models" and len(parts) > 3:  # a model's name may hold dots
        parts = [parts[0], ".".join(parts[1:-1]), parts[-1]]
    return variable_of(*parts), value.strip()


def _takes_part(model: Model, environ: Mapping[str, str]) -> bool:
    variables = model.key_variables
    return not variables or any(environ.get(v, "").strip() for v in variables)


def _one_more_account(model: Model, name: str, environ: Mapping[str, str]) -> Model:
    """The model with one key more; one that needs no key gets two accounts."""
    held = [v for v in model.key_variables if environ.get(v, "").strip()] or model.key_variables
    first = held or [f"{variable_of(name)}_KEY_1"]
    keys = [*first, f"{variable_of(name)}_KEY_MORE"]
    return model.model_copy(update={"api_key_env": None, "api_key_envs": keys})


def _with_keys(
    settings: Settings, environ: Mapping[str, str], names: Collection[str]
) -> dict[str, str]:
    """The environment, with keys for the models of these names that have none, and for added
    accounts."""
    found = dict(environ)
    for name, model in settings.models.items():
        variables = model.key_variables
        bare = not any(environ.get(v, "").strip() for v in variables)
        for number, variable in enumerate(variables):
            added = variable.startswith(variable_of(name))
            if added or (bare and name in names):
                found[variable] = f"{STAND_IN}-{name.encode().hex()}-{number}"
    return found
