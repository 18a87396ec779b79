"""The changes of one release: `python -m tests.changelog v0.2.0` prints them, for its notes.

Ends with 1 and the reason where a release must not be made: the tag is not the version of the
package, the changelog has no part for it or an empty one, or changes still stand
under "Unreleased".
"""

import re
import sys
from pathlib import Path

from asyncsvc import __version__

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
PART = re.compile(r"^## (.+?)$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
DATED = re.compile(r"(\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)")


class NoRelease(Exception):
    """Why no release may be made."""


def notes(tag: str, changelog: str, version: str = __version__) -> str:
    """The part of the changelog for a tag. Raises NoRelease."""
    if tag != f"v{version}":
        raise NoRelease(f"the tag is {tag}, the version in asyncsvc/__init__.py is {version}")
    parts = {head: body.strip() for head, body in PART.findall(changelog)}
    if parts.get("Unreleased"):
        raise NoRelease('changes stand under "Unreleased": give that part the version and the date')
    for head, body in parts.items():
        match = DATED.fullmatch(head)
        if match and match[1] == version:
            if not body:
                raise NoRelease(f"the part {head} of the changelog is empty")
            return str(body)
    raise NoRelease(f'the changelog has no part "## {version} (YYYY-MM-DD)"')


def main(words: list[str]) -> int:
    """Print the notes of the tag; 1 with the reason where there are none."""
    try:
        print(notes(words[0] if words else "", CHANGELOG.read_text(encoding="utf-8")))
    except NoRelease as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
