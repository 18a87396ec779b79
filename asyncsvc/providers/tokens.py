"""How many tokens a text is, without a tokenizer.

Owns the estimate: a CJK character is about 0.65 tokens, other text a token for four
characters [Moonshot and OpenAI documentation]. Never claims to be exact: what it fills in is
marked as estimated.
"""

import math
from collections.abc import Iterable
from typing import Any

MARGIN = 1.15


def estimate(text: str) -> int:
    """About how many tokens; at least 1 for any text."""
    if not text:
        return 0
    wide = sum("\u2e80" <= char <= "\uffef" for char in text)
    return max(1, round(wide * 0.65 + (len(text) - wide) / 4))


def context_needed(texts: Iterable[str], max_tokens: int) -> int:
    """Tokens of context for texts and answer, with a margin of 15 % on the estimate.

    Counted by bytes, which is fast for megabytes: what is wide takes three in UTF-8.
    """
    asked = 0.0
    for text in texts:
        wide = (len(text.encode(errors="replace")) - len(text)) / 2
        asked += wide * 0.65 + (len(text) - wide) / 4
    return math.ceil(asked * MARGIN) + max_tokens


def estimated_usage(asked: str, answered: str) -> dict[str, Any]:
    """Usage for a provider that does not report it."""
    prompt, completion = estimate(asked), estimate(answered)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "estimated": True,
    }
