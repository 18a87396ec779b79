"""Reading the settings: one TOML file, overridden by ASYNCSVC_<SECTION>__<KEY>.

Owns the order of precedence (command line, environment, file, defaults) and the wording of
faults. Promises to report all of them at once, one line each, with the key's full name, what
is allowed and what it means. Never reads the value of a secret.
"""

import contextlib
import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from asyncsvc.config.secrets import names_variables, redacted
from asyncsvc.config.settings import Client, Model, Settings, Variable, is_loopback, tokens
from asyncsvc.config.value_types import SECRET
from asyncsvc.errors import SettingsError

PREFIX = "ASYNCSVC_"
NEVER_SHOWN = {"extra_headers", "extra_body", "base_url", "token_sha256"}
"""Keys whose values may hold a secret although they should not."""
NAMED: Mapping[str, type[BaseModel]] = {"models": Model, "clients": Client}
"""Sections that hold a table for each name, with what such a table is."""
OUTSIDE_THE_FILE = {"ASYNCSVC_TOKENS", "ASYNCSVC_TOKEN", "ASYNCSVC_URL"}
PLACES = {"storage": ("path",), "tools": ("workspace",), "server": ("certfile", "keyfile")}
"""Values that name files; a relative one counts from the folder of the settings file."""


def load(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read the file (None: defaults only) and the environment.

    `overrides` are the command line's, as {"server": {"port": 1}}; they win over all, and their
    relative paths count from the working directory, all others from the folder of the file.
    Raises SettingsError with one line per fault.
    """
    values = _read(path) if path is not None else {}
    sources = dict.fromkeys(_names(values), "file")
    faults = _transaction(values, environ, sources)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [_line(fault, path, environ) for fault in error.errors()]
    if faults:
        raise SettingsError([redacted(line) for line in faults])
    if path is not None:
        settings = _placed(settings, path.absolute().parent)
    for section, changes in (overrides or {}).items():
        merged = getattr(settings, section).model_dump() | dict(changes)
        try:
            checked = type(getattr(settings, section)).model_validate(merged)
        except ValidationError as error:
            raise SettingsError(
                [
                    redacted(_line({**f, "loc": (section, *f["loc"])}, None, {}))
                    for f in error.errors()
                ]
            ) from None
        settings = settings.model_copy(update={section: checked})
        sources |= {f"{section}.{key}": "command line" for key in changes}
    settings.sources.update(sources)
    _check_exposure(settings, environ)
    return settings


def _placed(settings: Settings, folder: Path) -> Settings:
    """The settings with absolute paths."""
    for section, keys in PLACES.items():
        table = getattr(settings, section)
        paths = {key: str(folder / value) for key in keys if (value := getattr(table, key))}
        settings = settings.model_copy(update={section: table.model_copy(update=paths)})
    return settings


def earlier_place(settings: Settings, file: Path | None, key: str) -> Path | None:
    """Return what lies where a relative path led when it counted from the working directory, where
    nothing lies at its place now; `key` is the full name of a value in PLACES."""
    section, _, name = key.partition(".")
    now = Path(getattr(getattr(settings, section), name))
    if file is None or settings.sources.get(key) == "command line" or now.exists():
        return None
    folder = file.absolute().parent
    earlier = Path.cwd() / now.relative_to(folder) if now.is_relative_to(folder) else now
    return earlier if earlier != now and earlier.exists() else None


def _check_exposure(settings: Settings, environ: Mapping[str, str]) -> None:
    asked = tokens(settings, environ) or settings.clients
    if not is_loopback(settings.server.host) and not asked:
        variable = settings.server.auth_tokens_env or "the variable that auth_tokens_env names"
        raise SettingsError(
            [
                f"server.host: {settings.server.host!r} can be reached from other machines, so "
                f"{variable} must hold a token first "
                "(comma-separated bearer tokens), or [clients.*] name who may come in"
            ]
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError([f"{path}: no such file; give one with --settings FILE"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: cannot be read: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path}: not valid TOML: {error}"]) from None


def _names(values: Mapping[str, Any]) -> Iterator[str]:
    """The full names of all values of a file."""
    for section, table in values.items():
        for key, value in table.items() if isinstance(table, dict) else ():
            if section in NAMED and isinstance(value, dict):
                yield from (f"{section}.{key}.{inner}" for inner in value)
            else:
                yield f"{section}.{key}"


def _depth(section: str) -> int:
    """How many parts the full name of a value in that section has."""
    return 3 if section in NAMED else 2


def variable_of(*parts: str) -> str:
    """The variable that sets the value whose full name has these parts."""
    return PREFIX + "__".join(parts).translate(_TO_VARIABLE).upper()


def _transaction(
    values: dict[str, Any], environ: Mapping[str, str], sources: dict[str, str]
) -> list[str]:
    """Put the environment's values over the file's, and note them; the faults found on the way."""
    faults = []
    for name, text in sorted(environ.items()):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in OUTSIDE_THE_FILE or "__" not in upper:
            continue
        section, *path = upper.removeprefix(PREFIX).lower().split("__")
        if section not in Settings.model_fields:
            faults.append(
                f"{name}: unknown section {section!r}{_guess(section, Settings.model_fields)}"
            )
            continue
        table = values.setdefault(section, {})
        names = [section]
        for part in path:
            names.append(_known(part, table) if isinstance(table, dict) else part)
            if len(names) <= len(path):
                table = table.setdefault(names[-1], {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[names[-1]] = value = _value(text)
            whole = {section: {names[1]: value}} if len(names) == 2 else None
            set_by_it = _names(whole) if whole else [".".join(names[: _depth(section)])]
            sources |= dict.fromkeys(set_by_it, "environment")
        else:
            faults.append(f"{name}: cannot be set: {'.'.join([section, *path[:-1]])} is no table")
    return faults


def _known(part: str, table: Mapping[str, Any]) -> str:
    """The table's key that a part of a variable's name means, or the part itself.

    A model may be called openai/gpt-5.1 in the file; a variable's name cannot hold that.
    """
    if part in table:
        return part
    return next((key for key in table if key.lower().translate(_TO_VARIABLE) == part), part)


_TO_VARIABLE = str.maketrans(dict.fromkeys("-./:@", "_"))


def _value(text: str) -> Any:
    """Lists and tables are JSON; all else is text, which the field's type converts."""
    if text[:1] in "[{":
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return Variable(text)


def _guess(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _section_of(loc: tuple[Any, ...]) -> type[BaseModel]:
    """The class whose table holds the key at `loc`."""
    if len(loc) >= 2 and loc[0] in NAMED:
        return NAMED[loc[0]] if len(loc) >= 3 else Settings
    if len(loc) >= 2 and loc[0] in Settings.model_fields:
        kind = Settings.model_fields[loc[0]].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return Settings


def _line(fault: Mapping[str, Any], path: Path | None, environ: Mapping[str, str]) -> str:
    """One sentence: where, what is wrong, what the key means."""
    loc = tuple(str(part) for part in fault["loc"])
    table = _section_of(loc)
    depth = _depth(loc[0]) if loc else 2
    key = ".".join(loc[:depth]) or "settings"
    variable = variable_of(*loc[:depth])
    named = {name.upper(): name for name in environ}
    where = named.get(variable) or (str(path) if path else "settings")
    field = table.model_fields.get(loc[depth - 1]) if len(loc) >= depth else None
    meaning = f" ({field.description})" if field is not None and field.description else ""
    if fault["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key{_guess(loc[-1], table.model_fields)}"
    if fault["type"] == "missing":
        return f"{where}: {key}: is required{meaning}"
    text = fault["msg"].removeprefix("Value error, ")
    given = "" if _silent(fault, loc) else f", got {fault.get('input')!r}"
    return f"{where}: {key}: {text[0].lower()}{text[1:]}{given}{meaning}"


def _silent(fault: Mapping[str, Any], loc: tuple[str, ...]) -> bool:
    """Whether the value at fault may be a secret, or is a whole table."""
    value = fault.get("input")
    if fault["type"] == SECRET or isinstance(value, dict) or "@" in str(value):
        return True
    return any(name in NEVER_SHOWN or names_variables(name) for name in loc)
