"""Reading a chat's answer: from frames to the sink, under the deadlines of the call.

Owns when a silence is too long and when an answer is over. Promises that a finished answer holds
its connection no longer than a grace, that an unreadable frame is left out only where no piece of
the answer can be lost with it, and that an answer does not grow beyond a bound. Never touches the
network and never decides what a frame means.
"""

import asyncio
import logging
import math
from typing import Any

from asyncsvc.config.settings import Timeouts
from asyncsvc.errors import (
    FirstTokenTimeout,
    IdleTimeout,
    ProviderError,
    UpstreamDisconnected,
    UpstreamInvalid,
)
from asyncsvc.providers import errors as faults
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.providers.answers.delta import Sink
from asyncsvc.providers.answers.frames import Mark, Odd, first_choice
from asyncsvc.providers.answers.lenient_json import is_text
from asyncsvc.providers.answers.size import AnswerRoom
from asyncsvc.providers.upstream import Upstream

log = logging.getLogger(__name__)

GRACE_S = 1.0
"""How long the usage may follow the finish reason."""
LINGER_S = 0.2
"""After [DONE] or the last usage the body's end follows at once, and the connection can be used
again. A provider that keeps it open instead costs the connection, not the answer."""


class ChatReading:
    """One answer while it comes: `take` what each part of the body holds, then `end`."""

    def __init__(
        self,
        answer: Answer,
        sink: Sink,
        upstream: Upstream,
        timeouts: Timeouts,
        limit: asyncio.Timeout,
        now_ms: int,
        room: AnswerRoom,
    ) -> None:
        """`limit` has no time yet; the first is that until the first token. `room`: that of all
        answers under way."""
        self._room = room
        self._answer = answer
        self._sink = sink
        self._upstream = upstream
        self._timeouts = timeouts
        self._limit = limit
        self._now_ms = now_ms
        self._secrets = upstream.secrets
        self._size = 0
        self._odd: Odd | None = None
        """The first frame that could not be read."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = math.inf
        """When the timer looks whether the time is over."""
        self._due = math.inf
        self._ends_in(timeouts.first_token_s)

    async def take(self, frames: list[Any]) -> None:
        """The frames of one part of the body. Raises ProviderError for what is no answer."""
        answer, sink = self._answer, self._sink
        alive = False
        for frame in frames:
            if frame is Mark.PULSE:
                alive = True
            elif frame is Mark.DONE or answer.done or isinstance(frame, Odd):
                self._beside(frame)
            else:
                alive = True
                for each in frame if isinstance(frame, list) and frame else (frame,):
                    self._write(each)
                    if sink.full:
                        await self._drain()
                    if answer.ending is not None:
                        self._ending(each)
        if alive:
            sink.alive()
            if answer.begun and not (answer.ending and answer.ended):
                self._ends_in(self._timeouts.idle_s)

    def _write(self, frame: Any) -> None:
        before = self._size
        for delta in self._answer.take(frame, self._secrets):
            self._size += delta.size if delta.call else len(delta.text)
            self._sink.write(delta)
        self._room.held += self._size - before
        self._room.check(self._size)

    def _beside(self, frame: Any) -> None:
        """A frame that is no piece of the answer: its end, a usage after it, or unreadable data."""
        answer = self._answer
        if frame is Mark.DONE:
            if not answer.done:
                answer.done = True
                self._ends_in(LINGER_S)
        elif not answer.done:
            self._skip(frame)
        elif isinstance(frame, dict) and _tells_usage(frame) and not frame.get("choices"):
            self._write(frame)  # only a usage counts after the end

    async def _drain(self) -> None:
        """A disk that cannot keep up is no silence of the provider."""
        self._due = math.inf
        await self._sink.drained()
        self._ends_in(self._timeouts.idle_s)

    def _ending(self, frame: Any) -> None:
        """Set the time that the rest of the body may take once a finish reason has come."""
        if self._answer.certain:
            self._ends_in(LINGER_S if _tells_usage(frame) else GRACE_S)
        elif self._answer.ended:  # some providers give a finish reason with each piece of text
            self._ends_in(self._timeouts.idle_s)

    def _skip(self, odd: Odd) -> None:
        if odd.carries:
            raise UpstreamInvalid(odd.why)
        if self._odd is None:
            self._odd = odd
        log.warning(
            "%s: %d bytes of an answer could not be read and were left out",
            self._upstream.name,
            len(odd.data),
            extra={"model": self._upstream.name, "account": self._upstream.gate.name},
        )

    def end(self, *, empty: bool) -> None:
        """The end of the body. Raises ProviderError unless it was an answer; `empty`: no byte."""
        answer = self._answer
        if self._odd is not None and not (answer.begun and answer.ended):
            raise odd_error(self._odd, self._upstream, self._now_ms)
        if empty:
            raise UpstreamDisconnected("the provider accepted the call and sent nothing")
        answer.check(self._upstream.preset.empty_answers)

    def late(self, left: list[Any]) -> ProviderError:
        """The time is over although the answer is not; `left` is what was not complete."""
        if self._answer.begun:
            return IdleTimeout(f"the stream was silent for {self._timeouts.idle_s:g} s")
        odd = next((frame for frame in left if isinstance(frame, Odd)), self._odd)
        if odd is not None and not odd.like_json:
            return odd_error(odd, self._upstream, self._now_ms)
        return FirstTokenTimeout(f"no token within {self._timeouts.first_token_s:g} s")

    def close(self) -> None:
        """No deadline holds any more, and others may have the room."""
        self._room.held -= self._size
        self._size = 0
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ends_in(self, seconds: float) -> None:
        """Move the deadline. A timer in place is left where it is: each piece of text moves the
        deadline on, and a timer costs more than all else of a piece."""
        self._due = self._loop.time() + seconds
        if self._due < self._looked_at:
            self._look_at(self._due)

    def _look_at(self, when: float) -> None:
        self._cancel_timer()
        self._looked_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._looked_at = math.inf
        if self._limit.expired():
            return  # its end is under way: a connection may be slow to close
        if self._loop.time() >= self._due:
            self._limit.reschedule(self._due)
        elif self._due < math.inf:
            self._look_at(self._due)


def odd_error(odd: Odd, upstream: Upstream, now_ms: int) -> ProviderError:
    """The error for data in place of an answer, with the provider's words."""
    if odd.like_json:
        return UpstreamInvalid(odd.why)
    if not odd.whole and not is_text(odd.data):
        return UpstreamInvalid("the provider sent text that is not UTF-8")
    secrets, dialect = upstream.secrets, upstream.preset.errors
    if odd.whole:
        return faults.of_response(200, odd.data, secrets, dialect=dialect, now_ms=now_ms)
    return faults.of_stream(odd.data.decode(errors="replace"), secrets, dialect, now_ms)


def _tells_usage(frame: Any) -> bool:
    holders = (frame, first_choice(frame)) if isinstance(frame, dict) else ()
    return any(isinstance(holder.get("usage"), dict) for holder in holders)
