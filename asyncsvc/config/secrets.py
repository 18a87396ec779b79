"""Secrets where none belongs: what a provider's key looks like, and what names a variable.

Owns the patterns of keys and the rule for names of variables. Promises that no message of this
module holds what was given. Reads secrets only to have them left out of the log (`values`).
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
_SHAPES = (
    r"(?:sk|rk|pk|nvapi|xai|pplx|tp|glpat|xox[abeprs])-[A-Za-z0-9_*-]{16,}",
    r"(?:sk|rk|pk|gsk|hf|gh[opsur]|github_pat|r8|whsec|npm|pypi)_[A-Za-z0-9_+/=-]{16,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",  # AWS
    r"AKID[A-Za-z0-9]{28,}",  # Tencent Cloud
    r"LTAI[A-Za-z0-9]{12,}",  # Alibaba Cloud
    r"AIza[A-Za-z0-9_-]{30,}",  # Google
    r"[0-9a-f]{32}\.[A-Za-z0-9]{16}",  # Zhipu
    r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # JSON Web Token
)
"""Beginnings and shapes by which providers' keys are known, as secret scanners list them."""
KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_SHAPES)})")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_RANDOM = re.compile("(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{16,}")
_SEVERAL = re.compile(r"[,\s]+")
RANDOM_DIGITS = 3
"""Digits from which a long part of a name is taken for random text; names have one or two."""
_WRAPPING = re.compile(r"^[\"'`]?(?:authorization:\s*)?(?:bearer\s+)?", re.IGNORECASE)
_WORD_OF_KEYS = re.compile("API|KEYS?|TOKEN|SECRET")
SHORTEST_STEM, CLOSE = 5, 0.8
"""Characters of a name, and likeness, from which two names are taken for one that is misspelt."""
SECRET_NAMES = re.compile(
    "(?:.*[-_])?(?:authorization|cookie|token|password|secret|key|apikey|auth)", re.IGNORECASE
)
"""Headers and fields whose value is a secret by its name."""


def looks_like_key(text: str) -> bool:
    """Whether the text holds what is shaped like a key of a known provider."""
    return KEY.search(text) is not None


def redacted(text: str) -> str:
    """Return the text with *** for all that looks like a key."""
    return KEY.sub(HIDDEN, text)


def unwrapped(key: str) -> str:
    """Return a key without what is copied along with it: spaces, quotes, its header, `Bearer`."""
    return _WRAPPING.sub("", key.strip()).strip().strip("\"'`").strip()


def is_variable(name: str) -> bool:
    """Whether the text can be the name of an environment variable, and looks like no key."""
    if not _NAME.fullmatch(name) or looks_like_key(name):
        return False
    parts = (part for part in name.split("_") if _RANDOM.fullmatch(part))
    return not any(sum(sign.isdigit() for sign in part) >= RANDOM_DIGITS for part in parts)


def close_variable(wanted: str, environ: Mapping[str, str]) -> str | None:
    """Return a variable that is set and whose name may be meant for one that is not."""
    stem = _stem(wanted)
    near = [
        name
        for name, value in environ.items()
        if name != wanted and value.strip() and _WORD_OF_KEYS.search(name.upper())
    ]
    same = [name for name in near if _stem(name) == stem]
    if not same and len(stem) >= SHORTEST_STEM:
        same = difflib.get_close_matches(stem, [_stem(name) for name in near], 1, CLOSE)
        same = [name for name in near if _stem(name) in same]
    return same[0] if same else None


def _stem(variable: str) -> str:
    """A variable's name without the words that nearly all names of keys have."""
    return _WORD_OF_KEYS.sub("", variable.upper()).replace("_", "")


def names_variables(key: str) -> bool:
    """Whether a key of the settings names variables, by its own name."""
    return key.endswith(("_env", "_envs"))


def values(settings: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """The secrets in the variables that a tree of settings names. A variable may hold several.
    What a program is passed is a secret only by its name."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from values(value, environ)
        elif names_variables(key):
            for name in [value] if isinstance(value, str) else value or ():
                if key != "pass_envs" or SECRET_NAMES.fullmatch(name):
                    held = unwrapped(environ.get(name, ""))
                    yield from (unwrapped(part) for part in _SEVERAL.split(held))


def fault(key: str, value: Any) -> str | None:
    """Return what is wrong with a value of the settings as to secrets; None where nothing is."""
    found = list(_texts(value))
    if names_variables(key) and not all(is_variable(text) for text in found if text):
        return (
            "must be the name of an environment variable, of letters, digits and _, which holds "
            "the secret; the secret itself does not belong here and is not repeated"
        )
    if any(looks_like_key(text) for text in found):
        return (
            "holds what looks like a key; put it into an environment variable and name that in "
            "api_key_env. It is not repeated here"
        )
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
