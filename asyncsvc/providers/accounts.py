"""The accounts that the settings name: one key of one model each, with its limits.

The module reads a model's settings and keys, and makes or adapts the limiter of an account. What
only shows when a model is built is a SettingsError before anything has changed. Which account goes
on with which limiter is decided by the catalogue.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from asyncsvc.config.secrets import close_variable, unwrapped
from asyncsvc.config.settings import Model, Settings
from asyncsvc.errors import SettingsError
from asyncsvc.limits.account import AccountLimiter, Listener
from asyncsvc.limits.adaptive import CONCURRENCY_START, RPM_START, Adaptive
from asyncsvc.limits.breaker import Breaker
from asyncsvc.limits.sliding_window import Window
from asyncsvc.providers.dialects import PLAIN, PRESETS, Preset


@dataclass(frozen=True, slots=True)
class Account:
    """`gate` is its gate's name: the model's, with a number where there are several keys."""

    name: str
    gate: str
    model: Model
    preset: Preset
    base_url: str
    key: str | None = field(default=None, repr=False)
    variable: str | None = None
    """The variable that holds the key."""

    @property
    def identity(self) -> tuple[str, str | None]:
        """Whose calls the provider counts together."""
        return self.gate, self.key


@dataclass(frozen=True, slots=True)
class Accounts:
    """All of them, and why the other models cannot be used."""

    usable: tuple[Account, ...]
    disabled: dict[str, str]


def read(settings: Settings, environ: Mapping[str, str]) -> Accounts:
    """Raises SettingsError with one line per fault."""
    usable: list[Account] = []
    disabled: dict[str, str] = {}
    faults = []
    for name, model in settings.models.items():
        try:
            reason = _missing(model, environ)
            if reason is None:
                usable += _accounts(name, model, environ)
            else:
                disabled[name] = reason
        except ValueError as error:
            faults.append(f"models.{name}.{error}")
    if faults:
        raise SettingsError(faults)
    return Accounts(tuple(usable), disabled)


def new_limiter(account: Account, settings: Settings, listener: Listener) -> AccountLimiter:
    """A limiter with the account's limits that knows of no call yet."""
    model, span_s = account.model, account.model.rpm_window_s
    at_once, rate = model.concurrency, model.rpm
    return AccountLimiter(
        account.gate,
        concurrency=CONCURRENCY_START if at_once == "auto" else at_once,
        window=Window(RPM_START if rate == "auto" else rate, span_s),
        budget=Window(model.tpm, span_s),
        adaptive=Adaptive.of(at_once == "auto", rate == "auto", span_s),
        breaker=Breaker(settings.breaker.failures, settings.breaker.cooldown_s),
        retry_base_s=settings.retry.base_s,
        retry_max_s=settings.retry.max_s,
        listener=listener,
    )


def adapt(limiter: AccountLimiter, account: Account, settings: Settings) -> None:
    """Give a limiter in use the account's limits, and let it try what was refused."""
    model, span_s = account.model, account.model.rpm_window_s
    limiter.breaker.configure(settings.breaker.failures, settings.breaker.cooldown_s)
    limiter.cooldown.configure(settings.retry.base_s, settings.retry.max_s, span_s)
    adaptive = limiter.adaptive.as_set(model.concurrency == "auto", model.rpm == "auto", span_s)
    at_once = limiter.concurrency if model.concurrency == "auto" else model.concurrency
    rate = (limiter.window.limit or RPM_START) if model.rpm == "auto" else model.rpm
    limiter.configure(at_once, rate, model.tpm, adaptive)
    limiter.reset()


def _missing(model: Model, environ: Mapping[str, str]) -> str | None:
    if not model.enabled:
        return "enabled = false in the settings"
    variables = model.key_variables
    if variables and not any(environ.get(v, "").strip() for v in variables):
        return f"{' or '.join(variables)} is not set{_meant(variables, environ)}"
    return None


def _meant(variables: Sequence[str], environ: Mapping[str, str]) -> str:
    """A question where a variable is set whose name is nearly one of these."""
    near = (close_variable(variable, environ) for variable in variables)
    found = next((name for name in near if name is not None), None)
    return f", but {found} is: is its name misspelt?" if found else ""


def _keys(model: Model, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each variable with its key."""
    for variable in model.key_variables:
        # Secrets read from a file often end in a line feed, and copied ones begin with `Bearer`.
        key = unwrapped(environ.get(variable, ""))
        if not (key.isascii() and key.isprintable()):
            raise ValueError(
                f"api_key_env: {variable} holds characters that no HTTP header can carry"
            )
        if key:
            yield variable, key


def _accounts(name: str, model: Model, environ: Mapping[str, str]) -> Iterator[Account]:
    if model.preset is not None and model.preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise ValueError(f"preset: unknown preset {model.preset!r}; known: {known}")
    preset = PRESETS[model.preset] if model.preset else PLAIN
    if model.protocol == "openclaw-ws":
        if not preset.acts:
            raise ValueError('protocol: openclaw-ws needs preset = "openclaw"')
        # A run over the socket takes a text and nothing else.
        preset = replace(preset, allow=frozenset())
    base_url = model.base_url or preset.base_url
    if base_url is None:
        raise ValueError("base_url: is required where there is no preset")
    keys = list(_keys(model, environ))
    for index, (variable, key) in enumerate(keys or [(None, None)], 1):
        gate = name if len(keys) <= 1 else f"{name}#{index}"
        yield Account(name, gate, model, preset, base_url, key, variable)
