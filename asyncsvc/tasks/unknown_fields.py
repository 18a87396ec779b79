"""What a client may have meant by a field that does not exist.

Owns the answer for each name that clients of OpenAI's API and of other queues send: where the field
belongs here. Any other name is compared with those that exist. Pure.
"""

import difflib
from collections.abc import Iterable

from asyncsvc.tasks.parameters import Parameters

IN_MESSAGES = "put it into messages, with the role system"
ELSEWHERE = {
    "stream": "leave it out: each task can be followed while it runs, at /tasks/{id}/events and "
    "over the WebSocket",
    "system": IN_MESSAGES,
    "system_prompt": IN_MESSAGES,
    "instructions": IN_MESSAGES,
    "prompt": "the text of a task is its content, a conversation its messages",
    "message": "the text of a task is its content, a conversation its messages",
    "text": "the text of a task is its content, a conversation its messages",
    "user": "the owner is who calls: the client of the token, or the header X-User without tokens",
    "owner": "the owner is who calls: the client of the token, or the header X-User without tokens",
    "user_metadata": "what is given back as it was is metadata",
    "idempotency_key": "it goes into the header Idempotency-Key",
    "conversation": "tasks with the same session_id run one after another",
    "thread_id": "tasks with the same session_id run one after another",
    "webhook": "the address that is sent the finished task is callback_url",
    "webhook_url": "the address that is sent the finished task is callback_url",
    "retries": "the tries after the first are max_retries",
    "schedule": "a task is begun again and again by POST /schedules",
    "cron": "a task is begun again and again by POST /schedules",
    "max_output_tokens": "put it into params, as max_tokens",
}
"""Names from elsewhere, with what to do; none of them is a field of a task."""
ELSEWHERE["stream_options"] = ELSEWHERE["stream"]
TASK = "field of a task"
CUTOFF = 0.7
"""How much a name must be like another one to be taken for a slip of it."""


def meant(name: str, known: Iterable[str], kind: str) -> str:
    """How the sentence about an unknown name goes on; empty where nothing is like it. `kind` is
    what the known names are."""
    if kind == TASK:
        if (hint := ELSEWHERE.get(name)) is not None:
            return f": {hint}"
        if name in Parameters.model_fields:
            return f': put it into params, as in {{"params": {{"{name}": …}}}}'
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=CUTOFF)
    return f"; did you mean {close[0]!r}?" if close else ""
