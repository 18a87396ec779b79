"""The contrast of colours as WCAG 2.2 measures it, for the pairs that the page uses."""

import re
from collections.abc import Iterator, Mapping

TEXT, SIGN = 4.5, 3.0
"""The least ratio for what is read, and for signs and the edges of controls."""
SURFACES = ("page", "raised", "sunk", "hover", "chosen")
STATES = ("scheduled", "pending", "running", "paused", "completed", "failed", "cancelled")
WORDS = ("ink", "ink-2", "ink-3", "accent", "accent-up", *STATES)
ON_ONE = {
    "accent": ("on-accent",),
    "accent-up": ("on-accent",),
    "accent-bg": ("accent",),
    "call": ("on-call",),
    "call-bg": ("ink", "ink-2", "call", "accent-up"),
    "failed-bg": ("ink", "ink-2", "failed"),
    "add-bg": ("add-ink", "ink-3"),
    "del-bg": ("del-ink", "ink-3"),
}
"""Text on a surface that only it stands on."""
Colours = Mapping[str, tuple[str, str]]


def colours(css: str) -> Colours:
    """The tokens of a style sheet that have a colour for each theme: light, dark."""
    found = re.findall(r"--([\w-]+):\s*light-dark\((#\w{6}),\s*(#\w{6})\)", css)
    return {name: (light, dark) for name, light, dark in found}


def pairs() -> Iterator[tuple[str, str, float]]:
    """Foreground, background, and the least ratio between them."""
    for surface in SURFACES:
        yield from ((word, surface, TEXT) for word in WORDS)
    for surface in ("page", "raised", "chosen"):
        yield from ((line, surface, SIGN) for line in ("line-ctl", "past"))
    yield from (("focus", surface, SIGN) for surface in (*SURFACES, "call-bg"))
    for surface, texts in ON_ONE.items():
        yield from ((text, surface, TEXT) for text in texts)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(one: str, other: str) -> float:
    """From 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def too_low(css: str) -> list[str]:
    """The pairs of a style sheet that have too little contrast, in either theme."""
    known = colours(css)
    return [
        f"{theme}: {front} on {back} has {found:.2f}, below {least}"
        for front, back, least in pairs()
        for index, theme in enumerate(("light", "dark"))
        if (found := ratio(known[front][index], known[back][index])) < least
    ]
