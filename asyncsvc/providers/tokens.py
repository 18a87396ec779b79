"""How many tokens a text is, without a tokenizer.

Owns the estimate: a CJK character is about 0.65 tokens, other text a token for four
characters [Moonshot and OpenAI documentation]. Never claims to be exact: what it fills in is
marked as estimated.
"""

from typing import Any


def estimate(text: str) -> int:
    """About how many tokens; at least 1 for any text."""
    if not text:
        return 0
    wide = sum("\u2e80" <= char <= "\uffef" for char in text)
    return max(1, round(wide * 0.65 + (len(text) - wide) / 4))


def estimated_usage(asked: str, answered: str) -> dict[str, Any]:
    """Usage for a provider that does not report it."""
    prompt, completion = estimate(asked), estimate(answered)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "estimated": True,
    }
