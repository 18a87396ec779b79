"""The size of one provider's answer and of all that are under way, and the error for too much.

Owns the words of that error, the default of the bound, and the room that all answers share. Never
reads anything.
"""

from asyncsvc.config.settings import MB, Limits
from asyncsvc.errors import UpstreamTooLarge

DEFAULT_BYTES = Limits().answer_bytes


def too_large(most: int) -> UpstreamTooLarge:
    """The error for an answer of more than `most` bytes."""
    return UpstreamTooLarge(
        f"the provider's answer is larger than {most / MB:g} MB, which limits.answer_mb allows; "
        "the call was closed there"
    )


IN_ALL = 16
"""The part of `limits.memory_mb`, one in so many, that the text of all answers under way may have:
while it is written, a text is held about five times (the text, its pieces, events, JSON, SQL)."""
LEAST = 1 << 20
"""An answer up to this size is never cut for what others hold."""


class AnswerRoom:
    """The room of all answers under way. `held` are their characters so far."""

    def __init__(self, limits: Limits) -> None:
        self.held = 0
        self.apply(limits)

    def apply(self, limits: Limits) -> None:
        """Use other bounds from now on."""
        self.most = limits.answer_bytes
        """Of one answer."""
        self._in_all = max(limits.answer_bytes, limits.memory_mb * MB // IN_ALL)

    def check(self, size: int) -> None:
        """Raises UpstreamTooLarge where an answer of that size is larger than it may be, or one of
        the largest where there is no room for all."""
        if size > self.most:
            raise too_large(self.most)
        if self.held > self._in_all and size > LEAST:
            raise UpstreamTooLarge(
                f"the answers under way hold more than {self._in_all / MB:g} MB together, and this "
                f"one {size / MB:.0f} MB of it, for which limits.memory_mb has no room; the call "
                "was closed there"
            )
