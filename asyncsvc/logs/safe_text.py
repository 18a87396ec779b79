"""Text of others made safe to show: control characters become visible signs.

Owns which characters are unsafe. Newlines and tabs stay. Used for what is printed and for what is
logged alike. Never changes a value of JSON: there such characters are escaped.
"""

import json
import re
from typing import Any

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0 but tab and newline, DEL, C1, line separators, and what turns the direction of writing
(https://trojansource.codes). Marks such as U+200E, which only sort single signs, stay."""
_BREAK = re.compile("\r\n?")


def plain(text: str) -> str:
    """Return the text with unsafe characters made visible; a carriage return becomes a newline."""
    return UNSAFE.sub(picture, _BREAK.sub("\n", text))


def one_line(text: str) -> str:
    """Return the text as `plain` does, with spaces for newlines and tabs."""
    return plain(text).replace("\n", " ").replace("\t", " ")


def picture(found: re.Match[str]) -> str:
    """Return the sign for a control character (␛ for ESC), else �; each is one column wide."""
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def json_text(value: Any, indent: int | None = None) -> str:
    """Return one JSON document; unsafe characters are escaped, which changes no value."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
