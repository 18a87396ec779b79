"""`submit`: a task from a person's text to the answer, streamed into the terminal.

Ctrl-C while `submit --wait` waits cancels the task. A broken connection or a restart of the
service costs no text.
"""

import sys
from typing import Annotated, Any

from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.options import (
    INTERRUPTED,
    MISUSED,
    THERE,
    AgentFlag,
    Approvals,
    Failure,
    Files,
    Json,
    Lane,
    ModelOption,
    MostSteps,
    Priority,
    Prompt,
    Tools,
    Url,
    agent_fields,
    duration_option,
    print_created,
    print_json,
    task_fields,
)
from asyncsvc.cli.start_offer import offer_start

app = Commands()


def _moment(text: str) -> str:
    from asyncsvc.cli.moments import moment  # few tasks have a time

    return moment(text)


@app.command(group=THERE)
def submit(
    text: Prompt,
    model: ModelOption = None,
    lane: Lane = "short",
    priority: Priority = 5,
    wait: Annotated[
        bool, Option("--wait", help="Stream the answer; exit 0, 1 failed, 130 cancelled.")
    ] = False,
    agent: AgentFlag = False,
    tool: Tools = None,
    approve: Approvals = None,
    max_steps: MostSteps = None,
    file: Files = None,
    delay: Annotated[float | None, duration_option("--delay", "Not before so long.")] = None,
    at: Annotated[
        str | None,
        Option(metavar="TIME", parser=_moment, help="Not before 09:00, or a date and a time."),
    ] = None,
    timeout: Annotated[
        float | None, duration_option("--timeout", "The whole task at most; else by its lane.")
    ] = None,
    max_wait: Annotated[
        float | None, duration_option("--max-wait", "Refused where it would wait for longer.")
    ] = None,
    session: Annotated[
        str | None, Option(metavar="ID", help="Its tasks run one after another, in order.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Submit one task and print its id, or see it through with --wait."""
    if delay is not None and at is not None:
        raise Failure("give --delay or --at, not both", MISUSED)
    times = {"delay_s": delay, "run_at": at, "timeout_s": timeout, "max_wait_s": max_wait}
    given = {name: value for name, value in (times | {"session_id": session}).items() if value}
    own = agent_fields(agent, tool, approve, max_steps, file)
    fields = task_fields(text, model, lane, priority) | own | given
    offer_start(url)
    with reach(url) as api:
        accepted = api.post("/tasks", fields)
        task_id: str = accepted["task_id"]
        if wait:
            return _see_through(api, task_id, as_json)
    return print_created(accepted, task_id, _expected(accepted), as_json)


def _see_through(api: Api, task_id: str, as_json: bool) -> int:
    from asyncsvc.cli.transcript import Transcript, stream_or_cancel  # the task is under way

    transcript = Transcript(None if as_json else sys.stdout, sys.stderr)
    cancelled = stream_or_cancel(api, task_id, transcript)
    if as_json:
        print_json(api.task(task_id))
    return INTERRUPTED if cancelled else transcript.exit_code


def _expected(accepted: dict[str, Any]) -> str:
    place, eta = accepted.get("position"), accepted.get("eta_s")
    parts = [accepted["status"]]
    if place is not None:
        parts.append(f"position {place}")
    if eta is not None:
        parts.append("starts at once" if eta < 1 else f"starts in about {eta:.0f} s")
    return ", ".join(parts)
