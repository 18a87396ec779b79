"""How a response ended: a task's error and usage in the words of OpenAI's Responses API.

Owns the table of codes and the names of the counts. Promises whole numbers, whatever details a
provider has put into its usage. Never looks at a task.
"""

from typing import Any

Object = dict[str, Any]
ERROR_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "quota_exhausted": "rate_limit_exceeded",
    "context_too_long": "invalid_prompt",
    "content_filtered": "invalid_prompt",
    "upstream_rejected": "invalid_prompt",
}
"""OpenAI's code for a task's `error.code`; it has none but `server_error` for all others."""


def error_of(error: Object) -> Object:
    """Why the task failed, with a code of OpenAI's; the task's own code is the error's type."""
    code = str(error.get("code"))
    given = ERROR_CODES.get(code, "server_error")
    return {"code": given, "message": error.get("message") or code, "type": code, "param": None}


def usage_of(usage: Object | None) -> Object | None:
    """OpenAI's names for the tokens of a chat call."""
    if usage is None:
        return None
    prompt, answer = (
        _details(usage, f"{name}_tokens_details") for name in ("prompt", "completion")
    )
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": {
            "cached_tokens": prompt.get("cached_tokens") or 0,
            "cache_write_tokens": prompt.get("cache_write_tokens") or 0,
        },
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": answer.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens", 0),
    }


def _details(usage: Object, name: str) -> Object:
    """Counts within a count; those that are no counts are left out."""
    found = usage.get(name)
    held = found if isinstance(found, dict) else {}
    return {key: count for key, count in held.items() if type(count) is int and count > 0}
