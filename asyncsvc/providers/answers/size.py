"""The size of one provider's answer, and the error for one that is too large.

Owns the words of that error and the default of the bound. A size is in bytes as they come out of
decompression, whatever they are: text, thinking, comments, the JSON around it. Never reads
anything.
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
