"""Keys in a provider's words: found in any of the forms in which one is echoed, and replaced.

Owns the forms of a key (as it is, in other case, cut, base64, hexadecimal, percent-encoded) and the
replacement. Promises that no text that passes here holds ten characters in a row of a long key or
of its forms. A short one is replaced as a whole word only, for it may be part of common words.
Never logs anything.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

KEY = "[key]"
SHORTEST_KEY = 8
"""A shorter secret is a placeholder such as `any`, and part of common words."""
LONG_KEY = 16
"""A secret from this length on is no word of a language: any part of it goes."""
PART = 10
"""Characters in a row that are a part of a long key."""

_KEY_LIKE = re.compile(r"\b(?:sk|nvapi|tp|key)-[A-Za-z0-9_*-]{6,}|Bearer\s+[^\s\"']+")
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def without_keys(text: str, secrets: Iterable[str]) -> str:
    """The text with `[key]` in place of all that is or may be a part of a key."""
    for secret in secrets:
        if len(secret) >= LONG_KEY:
            text = _without_parts(text, _parts(secret))
        elif len(secret) >= SHORTEST_KEY:
            # As a whole word, perhaps repeated: such a key may be part of other words.
            whole = rf"(?<![A-Za-z0-9])(?:{re.escape(secret)})+(?![A-Za-z0-9])"
            text = re.sub(whole, KEY, text)
    return _KEY_LIKE.sub(KEY, text)


@lru_cache(maxsize=256)
def _parts(secret: str) -> frozenset[str]:
    """All runs of `PART` characters in the key's forms, in lower case."""
    data = secret.encode()
    forms = [secret, quote(secret, safe=""), data.hex(), secret[::-1]]
    # In base64 a text looks in three ways, by what stands before it (`Bearer `, a user's name).
    forms += [b64encode(b"\0" * before + data).decode()[before and 4 :] for before in range(3)]
    forms += [form.replace("+", "-").replace("/", "_") for form in forms[-3:]]
    lower = (form.rstrip("=").translate(_LOWER) for form in forms)
    return frozenset(form[at : at + PART] for form in lower for at in range(len(form) - PART + 1))


def _without_parts(text: str, parts: frozenset[str]) -> str:
    lower, kept, end = text.translate(_LOWER), list[str](), 0
    at = 0
    while at <= len(lower) - PART:
        if lower[at : at + PART] not in parts:
            at += 1
            continue
        kept += [text[end:at], KEY]
        end = at + PART
        while end < len(lower) and lower[end - PART + 1 : end + 1] in parts:
            end += 1
        at = end
    return "".join([*kept, text[end:]])
