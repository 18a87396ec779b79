"""What a look at this machine has found: one line each, with its remedy."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from asyncsvc.cli.terminal import say

Level = Literal["ok", "note", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`part` is what was looked at. `wrong` keeps something from working, a warning does not."""

    part: str
    level: Level
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def show(findings: Iterable[Finding]) -> None:
    """Print the findings, one line each."""
    for each in findings:
        say(f"{each.level:9} {each.part:9} {each}")


def wrong(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that keep something from working."""
    return [each for each in findings if each.level == "wrong"]
