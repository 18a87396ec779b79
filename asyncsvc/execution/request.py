"""The call itself: from what a task asks to what the provider answered.

Owns which of the client's calls serves a type of task, and what the answer is taken for.
Promises a usage with every answer, estimated where the provider gave none. Never looks at the
tasks that wait for the answer.
"""

from typing import Any

from asyncsvc.execution.call import Run
from asyncsvc.execution.embedding import embed
from asyncsvc.execution.outcome import Completed
from asyncsvc.execution.repeated_call import without_refused_fields
from asyncsvc.journal.journal import Journal
from asyncsvc.providers.answers import usage
from asyncsvc.providers.client import Client
from asyncsvc.providers.openclaw.sessions import SESSION_HEADER
from asyncsvc.providers.tool_answers import ToolSink
from asyncsvc.providers.tools import converted, plain
from asyncsvc.tasks.submission import last_user_text


async def ask(client: Client, journal: Journal, run: Run, body: dict[str, Any]) -> Completed:
    """`body` is the task's, as the store has it. Raises what the client raises."""
    if run.lead.request.type == "embedding":
        return await embed(run, client, journal, body)
    return await _chat(client, journal, run, body)


async def _chat(client: Client, journal: Journal, run: Run, body: dict[str, Any]) -> Completed:
    messages = body.get("messages") or [{"role": "user", "content": body["content"]}]
    known = None if run.session_key is None else {SESSION_HEADER: run.session_key}
    params, back = body["params"], None
    if not plain(params):
        back = ToolSink(run, converted(params.get("tools"), run.upstream.preset.tools))
    answer = await without_refused_fields(
        run, journal, lambda: client.chat(run.upstream, messages, params, back or run, known)
    )
    if back is not None:
        back.finish()
    wrote = "".join(delta.written for delta in run.heard)
    counts = usage.completed(answer.usage, last_user_text(messages), wrote)
    raw = answer.ending.word if answer.ending else None
    return Completed(run.text, counts, answer.called, answer.finish_reason, raw)
