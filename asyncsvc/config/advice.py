"""Warnings about secrets: tokens that can be guessed or are used twice, files that others can read.

Nothing of it keeps the service from starting. Promises that no warning holds a secret. Never
changes a file.
"""

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asyncsvc.config.environment import ENV_FILE, Environment, open_to_others
from asyncsvc.config.load import OUTSIDE_THE_FILE, PREFIX, variable_of
from asyncsvc.config.secrets import SECRET_NAMES, names_variables, unwrapped
from asyncsvc.config.settings import Settings

LEAST_CHARS = 16
"""Shortest token without a warning: 16 random letters and digits are 95 bits, of which OWASP's
guide to sessions asks for 64."""
KEYS = ("api_key_env", "api_key_envs")
CLOSE = 0.9
"""Likeness from which two names are taken for one that is misspelt."""
_PLACEHOLDER = re.compile(
    r"<.*>|\{.*\}|(?:sk-)?(?:your|my|enter|paste|put)[-_ ].*|(?:sk-|nvapi-)?(?:x{3,}|\.{3}|…|\*+)"
    r"|changeme|todo|none|null",
    re.IGNORECASE,
)
TOKENS = ("auth_tokens_env", "token_env")
"""Keys that name variables with tokens of clients, separated by commas."""


def warnings(settings: Settings, environ: Mapping[str, str], file: Path | None) -> list[str]:
    """Return one line for each secret that is weak, used twice, in the file or open to others."""
    values = list(_values("", settings.model_dump()))
    lines = [*_tokens(values, environ), *_in_the_file(values), *_keys(values, environ)]
    lines += misspelt(settings, environ)
    folders = dict.fromkeys([Path.cwd(), *([file.absolute().parent] if file else [])])
    secret_files = [folder / ENV_FILE for folder in folders]
    if file is not None and any(_in_the_file(values)):
        secret_files.append(file)
    return lines + [line for each in secret_files if (line := open_to_others(each))]


def _values(where: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (full name, key, value) of each value of the settings."""
    for key, value in table.items():
        full = f"{where}.{key}" if where else key
        if isinstance(value, dict):
            yield from _values(full, value)
        else:
            yield full, key, value


def _keys(values: list[tuple[str, str, Any]], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each key of a model that is not as its provider has given it."""
    names = [name for _, key, value in values if key in KEYS for name in _variables(key, value)]
    for variable in dict.fromkeys(names):
        held = environ.get(variable, "").strip()
        key = unwrapped(held)
        if key != held:
            yield f"{variable} holds quotes or a word such as Bearer around the key; left out"
        if _PLACEHOLDER.fullmatch(key):
            yield f"{variable} holds a placeholder, not a key"
        elif len(key.split()) > 1:
            yield f"{variable} has a space within the key; was more copied than the key?"


def of_variables(settings: Settings, environ: Environment) -> list[str]:
    """Return what a start has to say of the variables: a `.env` that others can read, keys that
    are none, names that set nothing."""
    of_file = open_to_others(environ.file) if environ.file is not None else None
    values = list(_values("", settings.model_dump()))
    lines = [*_keys(values, environ), *misspelt(settings, environ)]
    return [of_file, *lines] if of_file else lines


def misspelt(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return one line for each variable that is nearly one that would set something."""
    values = list(_values("", settings.model_dump()))
    known = {name for _, key, value in values for name in _variables(key, value)}
    known |= OUTSIDE_THE_FILE | {variable_of(*name.split(".")) for name, _, _ in values}
    by_letters = {name.replace("_", ""): name for name in known}
    lines = []
    for name in environ:
        upper = name.upper()
        read = upper in known or (upper.startswith(PREFIX) and "__" in upper)
        if read or not upper.startswith(PREFIX[:5]):
            continue
        letters = upper.replace("_", "")
        close = difflib.get_close_matches(letters, by_letters, 1, CLOSE)
        if close:
            lines.append(f"{name} sets nothing; did you mean {by_letters[close[0]]}?")
    return lines


def _tokens(values: list[tuple[str, str, Any]], environ: Mapping[str, str]) -> Iterator[str]:
    """Compare all secrets with each other, and count the characters of those of clients."""
    seen: dict[str, str] = {}
    done: set[str] = set()
    for full, key, value in values:
        if key == "token_sha256" and value:
            yield from _twice(seen, full, str(value).lower())
        for variable in _variables(key, value):
            if variable in done:
                continue
            done.add(variable)
            for place, secret in _secrets(variable, environ.get(variable, ""), key):
                if key in TOKENS and len(secret) < LEAST_CHARS:
                    yield (
                        f"{place} has {len(secret)} characters and may be guessed; take at least "
                        f"{LEAST_CHARS} random ones"
                    )
                yield from _twice(seen, place, hashlib.sha256(secret.encode()).hexdigest())


def _variables(key: str, value: Any) -> list[str]:
    if not names_variables(key) or not value:
        return []
    return [value] if isinstance(value, str) else list(value)


def _secrets(variable: str, held: str, key: str) -> list[tuple[str, str]]:
    """Return (place, secret) of what a variable holds."""
    parts = held.split(",") if key in TOKENS else [held]
    found = [part.strip() for part in parts if part.strip()]
    if len(found) < 2:
        return [(variable, secret) for secret in found]
    return [(f"token {number} of {variable}", secret) for number, secret in enumerate(found, 1)]


def _twice(seen: dict[str, str], place: str, digest: str) -> Iterator[str]:
    if digest in seen:
        yield f"{place} is equal to {seen[digest]}; each needs a secret of its own"
    seen.setdefault(digest, place)


def _in_the_file(values: list[tuple[str, str, Any]]) -> Iterator[str]:
    """Yield a line for each header and field that is a secret by its name."""
    for full, key, value in values:
        inside = ".extra_headers." in full or ".extra_body." in full
        if inside and isinstance(value, str) and value and SECRET_NAMES.fullmatch(key):
            yield f"{full} is a secret in the file; put it into the variable of api_key_env"
