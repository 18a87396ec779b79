"""The pieces of a streamed answer.

Owns the reading of chat chunks in the shapes that providers send: deltas, whole messages and both
at once, content in parts, usage anywhere, thinking under several names or between tags, tool calls
in pieces, errors in every place. Promises that nothing is given out twice, that an odd frame is
left out instead of ending the stream, and that an answer counts as one only if the provider
finished it. Never touches a socket. It is longer than 300 lines because one answer is read in one
place.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from asyncsvc.errors import EmptyAnswer, ProviderError, UpstreamDisconnected, UpstreamInvalid
from asyncsvc.providers import errors as faults
from asyncsvc.providers.answers import finish_reasons as finish
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.providers.answers.pieces import (
    BLANK_CHARS,
    OF_FRAME,
    Fields,
    Piece,
    Room,
    add,
    joined,
    plain,
    read,
    shorter,
)
from asyncsvc.providers.answers.thinking import (
    At,
    ThinkSplitter,
    Thoughts,
    beyond,
    closes_unopened,
    continues,
    untagged,
)
from asyncsvc.providers.answers.tool_calls import ToolCalls
from asyncsvc.providers.tokens import counted, updated_usage

REPEATED_CHARS = 8
"""A closing piece of no more characters is text, also where all text so far is the same."""
MESSAGE = "message"
"""The event that carries an answer's further fields."""
Object = dict[str, Any]


class Answer:
    """A streamed answer so far. `take` each frame, `rest` at the end, then `check`.

    `dialect` names the table of its errors; `unopened`: the model may begin to think without an
    opening tag; `after_tool`: the last message of the request is a tool's result.
    """

    def __init__(
        self,
        *,
        dialect: str = "any",
        now_ms: int | None = None,
        unopened: bool = False,
        after_tool: bool = False,
    ) -> None:
        self.begun = False
        self.done = False
        """The provider has sent [DONE]."""
        self.usage: Object | None = None
        self.ending: finish.Ending | None = None
        self.thought = False
        self._dialect = dialect
        self._now_ms = now_ms
        self._after_tool = after_tool
        self._splitter = ThinkSplitter(unopened)
        self._thoughts = Thoughts()
        self._room = Room()
        self._calls = ToolCalls(self._room)
        self._fields = Fields(self._room)
        self._raw: list[str] = []
        """The content as it came, tags included."""
        self._text: list[str] = []
        self._by_delta = False
        """Text has come in a delta, so a whole message is a repetition."""
        self._in_pieces = False
        """What is called a message is a delta."""
        self._flowing = False
        """A frame of plain text goes through as it is."""
        self._went_on = False
        """Text has come after a finish reason, which therefore was no end."""
        self._alone = False
        """The last finish reason came without text or after text that had none, or usage came
        after it."""
        self._open_text = False
        """Text has come in a frame without a finish reason."""
        self._odd = ""
        """The first frame that held nothing of an answer."""

    # Reading ----------------------------------------------------------------------------------

    def take(self, chunk: Any, secrets: Iterable[str]) -> Iterable[Delta]:
        """The pieces in one frame. Raises ProviderError for an error in disguise."""
        if self._flowing and (found := plain(chunk)) is not None:
            name, text = found
            if name == self._thoughts.source:
                add(self._thoughts.parts, text)
                return (Delta(text, True),)
            if name == "content" and self._splitter.at is At.ANSWER and self._by_delta:
                add(self._raw, text)
                add(self._text, text)
                return (Delta(text),)
        return self._read(chunk, secrets)

    def rest(self) -> Iterator[Delta]:
        """The deltas that were held back until the end; to be taken when no more frames come."""
        self._flowing = False
        cut = self.ending is not None and self.ending.meaning == finish.LENGTH
        for text, is_thought in self._splitter.end(cut):
            yield from self._text_piece(text, is_thought)
        for piece in self._calls.rest():
            yield Delta("", call=piece)
        if self._fields.changed and self.ended:
            self._fields.changed = False
            yield Delta("", event=(MESSAGE, self._fields.held))

    def _read(self, chunk: Any, secrets: Iterable[str]) -> Iterator[Delta]:
        if isinstance(chunk, list):
            for each in filter(lambda one: isinstance(one, dict), chunk):
                yield from self._read(each, secrets)
            return
        if not isinstance(chunk, dict):
            self._skip(chunk)
            return
        if (error := faults.error_in(chunk)) is not None:
            raise self._fault(error, secrets)
        choices = chunk.get("choices")
        choices = choices if isinstance(choices, list) else []
        wrote = 0
        holders = [chunk, chunk.get("x_groq")]  # Groq has the usage in a field of its own
        for choice in choices:
            if isinstance(choice, dict) and choice.get("index") in (None, 0, "0"):
                for delta in self._choice(choice, secrets):
                    wrote += 1
                    yield delta
                holders += [choice, choice.get("delta")]  # Moonshot
        for name in OF_FRAME:
            self._fields.put(name, chunk.get(name))
        self._count([one for one in holders if isinstance(one, dict)], wrote > 0)
        if "choices" not in chunk and self.usage is None:
            self._skip(chunk)

    def _skip(self, frame: Any) -> None:
        if not self._odd:
            self._odd = ", ".join(map(str, frame))[:200] if isinstance(frame, dict) else "no object"

    def _count(self, holders: list[Object], wrote: bool) -> None:
        """The usage, wherever it stands. The first one, or one without text, follows the end."""
        for holder in holders:
            if isinstance(holder.get("usage"), dict):
                self._alone |= self.ending is not None and (self.usage is None or not wrote)
                self.usage = updated_usage(self.usage, holder["usage"])

    def _fault(self, error: Any, secrets: Iterable[str]) -> ProviderError:
        return faults.of_stream(error, secrets, self._dialect, self._now_ms)

    def _check_inside(self, holder: Any, secrets: Iterable[str]) -> None:
        """Raises ProviderError where a part of a choice holds an error."""
        inside = holder.get("error") if isinstance(holder, dict) else None
        if inside and (error := faults.error_in({"error": inside})) is not None:
            raise self._fault(error, secrets)

    def _choice(self, choice: Object, secrets: Iterable[str]) -> Iterator[Delta]:
        delta, whole = choice.get("delta"), choice.get("message")
        for holder in (choice, delta, whole):
            self._check_inside(holder, secrets)
        if not delta and not whole and choice.get("text"):
            delta = {"content": choice["text"]}  # the older kind of completions
        end = finish.of_choice(choice, delta)
        pieces = 0
        if isinstance(delta, dict):
            for one in self._delta(read(delta), closing=end is not None):
                pieces += 1
                yield one
        if isinstance(whole, dict):
            piece = read(whole)
            self._in_pieces = self._in_pieces or self._is_delta(piece)
            for one in self._delta(piece, False) if self._in_pieces else self._whole(piece):
                pieces += 1
                yield one
        if pieces and self.ending is not None:
            self._went_on, self._alone = True, False
        if end is not None:
            message = isinstance(whole, dict) and not delta and not self._in_pieces
            self._end(end, alone=not pieces or message or self._open_text)
        elif pieces:
            self._open_text = True
        self._flowing = self._by_delta and self.ending is None

    def _end(self, end: finish.Ending, alone: bool) -> None:
        if not isinstance(end.meaning, str):
            raise end.meaning(f"the provider ended the answer with {end.word!r}")
        self.ending, self._alone = end, alone

    def _delta(self, piece: Piece, closing: bool) -> Iterator[Delta]:
        """A piece that goes on with what came before. `closing`: a finish reason comes with it;
        some providers repeat the whole text with the first one."""
        last = closing and self.ending is None
        for source, text in piece.thoughts:
            if not (last and _repeats(self._thoughts.text, text)):
                yield from self._think(self._thoughts.take(source, text))
        self._by_delta |= bool(piece.text or piece.thoughts) and not self._in_pieces
        if not (last and _repeats(joined(self._raw), piece.text)):
            yield from self._feed(piece.text)
        yield from self._refuse(piece.refusal)
        for call in piece.calls:
            self.begun = True
            for part in self._calls.take(call):
                yield Delta("", call=part)
        for name, value in piece.fields.items():
            self.begun = True
            self._fields.add(name, value, closing)

    def _whole(self, piece: Piece) -> Iterator[Delta]:
        """A whole message: what it has beyond the pieces that came before."""
        for _, text in piece.thoughts:
            yield from self._think(self._thoughts.whole(text))
        yield from self._whole_text(piece.text)
        if piece.refusal and _begins(piece.refusal, self._text):
            yield from self._refuse(piece.refusal[len(joined(self._text)) :])
        for part in self._calls.repeat(piece.calls):
            self.begun = True
            yield Delta("", call=part)
        for name, value in piece.fields.items():
            self.begun = True
            self._fields.put(name, value)

    def _is_delta(self, message: Piece) -> bool:
        """Whether a message is a delta by another name: it does not begin with what came before."""
        if self._by_delta:
            return False
        known = [(joined(self._raw), message.text)]
        known += [(self._thoughts.text, text) for _, text in message.thoughts]
        return any(before and text and not text.startswith(before) for before, text in known)

    def _whole_text(self, text: str) -> Iterator[Delta]:
        if not text:
            return
        if not self._raw and closes_unopened(text):
            self._splitter = ThinkSplitter(unopened=True)
        if _begins(text, self._raw):
            yield from self._feed(text[len(joined(self._raw)) :])
            return
        if shorter(text, self._text, BLANK_CHARS):
            return
        # Blanks, or thinking between tags, that only one of the two has.
        known, answer = joined(self._text), untagged(text)
        if continues(known, answer):
            yield from self._text_piece(beyond(known, answer), False)

    # What is given out ------------------------------------------------------------------------

    def text(self, text: str) -> Delta:
        """A piece of text as it is, for an answer that does not come in chunks."""
        self.begun = True
        add(self._text, text)
        return Delta(text)

    def _think(self, text: str) -> Iterator[Delta]:
        if text:
            self._splitter.no_tags()
            self.begun = self.thought = True
            yield Delta(text, True)

    def _feed(self, text: str) -> Iterator[Delta]:
        if text:
            self.begun = True
            add(self._raw, text)
            for part, is_thought in self._splitter.feed(text):
                yield from self._text_piece(part, is_thought)

    def _text_piece(self, text: str, is_thought: bool, refusal: bool = False) -> Iterator[Delta]:
        if is_thought:
            self.thought = True
            if new := self._thoughts.take("tag", text):
                yield Delta(new, True)
        elif text:
            add(self._text, text)
            yield Delta(text, refusal=refusal)

    def _refuse(self, text: str) -> Iterator[Delta]:
        if text:
            self.begun = True
            yield from self._text_piece(text, False, refusal=True)

    # The end ----------------------------------------------------------------------------------

    @property
    def called(self) -> bool:
        """Whether the answer calls tools."""
        return bool(self._calls)

    @property
    def finish_reason(self) -> str:
        """The reason in OpenAI's words; `stop` where the provider has given none."""
        meaning = self.ending.meaning if self.ending else finish.STOP
        return finish.reason_of(str(meaning), self.called)

    @property
    def ended(self) -> bool:
        """Whether the provider has ended the answer. Some send no [DONE], some close late."""
        return self.done or (self.ending is not None and (self._alone or not self._went_on))

    @property
    def certain(self) -> bool:
        """Whether it has ended even if the connection breaks now: a finish reason that comes with
        text may be in each frame."""
        return self.done or (self.ending is not None and self._alone)

    def check(self, empty_answers: Iterable[str]) -> None:
        """The stream is over: raises ProviderError unless it was an answer."""
        if not self.ended:
            if self._odd and not self.begun:
                raise UpstreamInvalid(f"the provider sent no answer, but: {self._odd}")
            raise UpstreamDisconnected("the stream ended in the middle of the answer")
        if self.called or self.finish_reason == finish.LENGTH:
            return
        answered = self.thought or self._fields.held or counted(self.usage)
        empty = not (self._text or answered or self._after_tool)
        if empty or self._stands_for_none(empty_answers):
            raise EmptyAnswer("the provider ended the answer without any text")

    def _stands_for_none(self, empty_answers: Iterable[str]) -> bool:
        """Whether the text is one by which a gateway says that there is none."""
        size = sum(map(len, self._text))
        return any(size == len(each) and "".join(self._text) == each for each in empty_answers)


def _begins(text: str, known: list[str]) -> bool:
    """Whether a whole text begins with the known one."""
    return not shorter(text, known) and text.startswith(joined(known))


def _repeats(text: str, closing: str) -> bool:
    """Whether a closing piece is all text so far once more, and not a word that comes twice."""
    return len(closing) > REPEATED_CHARS and closing == text
