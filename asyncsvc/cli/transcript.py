"""One task's stream as text: the answer to stdout, all else to stderr.

Owns what `submit --wait` and `watch ID` write. Promises that stdout holds nothing but the
answer, that a new attempt's text starts on a new line with a word on stderr, and that the
note of waiting shows on terminals only. Never waits for anything.
"""

from typing import Any, TextIO

from asyncsvc.cli.card import Card
from asyncsvc.cli.failure import FAILED, INTERRUPTED

EXIT_CODES = {"completed": 0, "failed": FAILED, "cancelled": INTERRUPTED}
ERASE = "\r\x1b[K"


class Transcript:
    """Give it events by `take`, then ask for `exit_code`. `out` None: the answer is not wanted."""

    def __init__(self, out: TextIO | None, err: TextIO) -> None:
        self.card = Card()
        self._out = out
        self._err = err
        self._noting = err.isatty()
        self._noted = False
        self._written = False
        self._mid_line = False

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.card.status, FAILED)

    def take(self, event: dict[str, Any]) -> None:
        """Write what the event adds."""
        kind, data = event["type"], event["data"]
        if kind == "attempt" and self._written:
            self.say(f"attempt {data['number']}: the text so far is void, starting over")
            self._written = False
        self.card.take(event)
        match kind:
            case "chunk":
                self._write(data["text"])
            case "retry":
                why = data.get("why") or {}
                delay = data.get("delay_s")
                when = f"in {delay:.1f} s" if delay else "as soon as the model allows"
                self.say(f"trying again {when}: {why.get('code')}: {why.get('message')}")
            case "status" if self.card.status == "paused":
                self.say("paused; it goes on after `resume`")
            case "status" if self.card.ended:
                self._end()
            case _:
                self._note()

    def say(self, line: str) -> None:
        """A line for the person, on stderr; text that was begun is ended first."""
        self._fresh_line()
        print(f"[{line}]", file=self._err, flush=True)

    def _end(self) -> None:
        card = self.card
        if card.error:
            self.say(f"{card.status}: {card.error['code']}: {card.error['message']}")
        elif card.status != "completed":
            self.say(card.status)
        else:
            self._fresh_line()

    def _write(self, text: str) -> None:
        if self._out is None or not text:
            return
        self._erase()
        self._out.write(text)
        self._out.flush()
        self._written, self._mid_line = True, not text.endswith("\n")

    def _fresh_line(self) -> None:
        self._erase()
        if self._mid_line and self._out is not None:
            self._out.write("\n")
            self._out.flush()
            self._mid_line = False

    def _note(self) -> None:
        if not self._noting or self._mid_line:
            return
        self._erase()
        self._err.write(f"\x1b[2m{waiting(self.card)}\x1b[0m")
        self._err.flush()
        self._noted = True

    def _erase(self) -> None:
        if self._noted:
            self._err.write(ERASE)
            self._err.flush()
            self._noted = False


def waiting(card: Card) -> str:
    """What a task is waiting for, in a few words."""
    if card.status == "running":
        done = f", {card.tokens} tokens" if card.tokens else ""
        where = f" on {card.name}" if card.name else ""  # told a moment after the start
        return f"{'thinking' if card.thoughts else 'running'}{where}{done} …"
    place = f", position {card.position}" if card.position else ""
    eta = f", about {card.eta_s:.0f} s" if card.eta_s else ""
    reason = f" ({card.reason})" if card.reason else ""
    return f"{card.status}{place}{eta}{reason} …"
