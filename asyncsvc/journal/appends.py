"""What the journal was asked to append, and who is to hear of it.

Owns an append from its asking to its outcome. Promises that `then` hears before the future does,
and that what fails there is logged and keeps nobody from hearing. Never writes anything.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asyncsvc.errors import AsyncsvcError
from asyncsvc.journal.transaction import Entry
from asyncsvc.tasks.state import Task

log = logging.getLogger(__name__)

Outcome = list[Task] | AsyncsvcError
"""The tasks as they stand after an append, or why it was refused."""


@dataclass(slots=True)
class Append:
    """`done` is None where nobody waits for it."""

    entries: Sequence[Entry]
    then: Callable[[Outcome], None] | None
    done: "asyncio.Future[list[Task]] | None" = None

    def settle(self, outcome: Outcome) -> None:
        """It is on the disk, or refused."""
        if self.then is not None:
            try:
                self.then(outcome)
            except Exception:
                log.exception("what follows on an append has failed")
        if self.done is None or self.done.done():
            return  # nobody asked, or has gone since; the append stands all the same
        if isinstance(outcome, AsyncsvcError):
            self.done.set_exception(outcome)
            # A run that was cut leaves its last append behind: its error is nobody's news.
            self.done.exception()
        else:
            self.done.set_result(outcome)
