"""One small call for each key, by the running service or from here.

A running service makes the calls as tasks, so that they count against the limits of its accounts;
the tasks are deleted afterwards. Promises that the price is shown first, and one finding for each
call.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asyncsvc.cli.client import Api, Unreachable, find
from asyncsvc.cli.failures import Failure
from asyncsvc.cli.findings import Finding
from asyncsvc.clock import now_ms
from asyncsvc.config.settings import Settings
from asyncsvc.errors import ProviderError, RateLimited
from asyncsvc.providers.registry import Catalogue
from asyncsvc.providers.trial import FEWEST, LONGEST_S, QUESTION, Trial, trials
from asyncsvc.storage.lock import holder

AHEAD_S = 60.0
"""Difference of the clocks from which it is worth a warning."""
POLL_S = 0.2
LOOK_S = 5.0
"""Limit for an answer of a service, which may hang."""
ENDED = ("completed", "failed", "cancelled")

Say = Callable[[str], None]


def running(environ: Mapping[str, str], url: str | None = None) -> Api | None:
    """Return a client of the service at that address or at that of the settings; None: none runs.

    Raises Failure where something else answers there.
    """
    api = Api(find(url, environ), LOOK_S, LOOK_S)
    try:
        api.get("/health")
    except Unreachable:
        return None
    return api


def from_here(settings: Settings, environ: Mapping[str, str], tell: Say) -> list[Finding]:
    """Make the calls from this process; no service may run with these accounts."""

    async def called() -> list[Trial]:
        upstreams = Catalogue(settings, environ).upstreams
        tell(price(len(upstreams), "key"))
        return await trials(upstreams, settings.timeouts, settings.limits, now_ms)

    made = asyncio.run(called())
    return [*map(_of_trial, made), *_of_clock(made)] or [nothing_to_call()]


def price(number: int, what: str) -> str:
    """Return the line that tells what the calls cost."""
    return (
        f"{number} {'call' if number == 1 else 'calls'} of {FEWEST} token, one for each {what}; "
        "each counts against your limits, and its provider may charge for it"
    )


def nothing_to_call() -> Finding:
    return Finding("call", "warning", "no model is enabled, so nothing is called")


def _of_trial(trial: Trial) -> Finding:
    shown = f"{trial.name}  {trial.model_id}"
    if trial.error is None:
        return Finding("call", "ok", f"{shown}  {trial.latency_s:.2f} s, {trial.key}")
    return _of_error(shown, trial.error)


def _of_error(shown: str, error: ProviderError) -> Finding:
    if isinstance(error, RateLimited):
        return Finding("call", "warning", f"{shown}  too many calls at the moment, {error}")
    return Finding("call", "wrong", f"{shown}  {error}")


def _of_clock(made: list[Trial]) -> list[Finding]:
    """What the clocks of the providers say of ours: most of them must agree."""
    ahead = sorted(trial.ahead_s for trial in made if trial.ahead_s is not None)
    if not ahead:
        return []
    middle = ahead[len(ahead) // 2]
    text = f"{abs(middle):.0f} s {'ahead of' if middle > 0 else 'behind'} the providers' clocks"
    if abs(middle) > AHEAD_S:
        return [Finding("clock", "warning", text, "let NTP set the clock of this machine")]
    return [Finding("clock", "ok", f"within {max(1, round(abs(middle)))} s of the providers'")]


def by_service(api: Api, agents: set[str], tell: Say) -> list[Finding]:
    """Let the service make the calls; `agents` are the models that are gateways of agents, which
    are not called, as an agent may act."""
    models = [model for model in api.get("/models")["models"] if model["enabled"]]
    called = [model for model in models if model["name"] not in agents]
    tell(price(len(called), "model, by the running service"))
    begun = [(model, api.post("/tasks", _task(model))["task_id"]) for model in called]
    found = [_watched(api, model, task_id) for model, task_id in begun]
    gateways = [_of_gateway(model) for model in models if model["name"] in agents]
    return [*found, *gateways] or [nothing_to_call()]


def _task(model: dict[str, Any]) -> dict[str, Any]:
    once = {"model": model["name"], "lane": "priority", "priority": 9, "max_retries": 0}
    once |= {"timeout_s": LONGEST_S, "cache": False}
    if model["type"] == "embedding":
        return once | {"type": "embedding", "input": QUESTION}
    return once | {"content": QUESTION, "params": {"max_tokens": FEWEST}}


def _watched(api: Api, model: dict[str, Any], task_id: str) -> Finding:
    """The outcome of a task, which is then deleted."""
    end = time.monotonic() + LONGEST_S
    while (task := api.task(task_id))["status"] not in ENDED and time.monotonic() < end:
        time.sleep(POLL_S)
    shown = f"{model['name']}  {model['model']}"
    if task["status"] not in ENDED:
        api.command(task_id, "cancel")
        why = model["waiting_for"] or "the model is busy"
        return Finding("call", "warning", f"{shown}  not made within {LONGEST_S:g} s: {why}")
    api.delete(f"/tasks/{task_id}")
    if task["status"] == "completed":
        return Finding("call", "ok", f"{shown}  {task['metadata']['latency']:.2f} s")
    error = task["error"] or {"message": task["status"]}
    return Finding("call", "wrong", f"{shown}  {error['message']}")


def _of_gateway(model: dict[str, Any]) -> Finding:
    if model["ready"] is False:
        return Finding("call", "wrong", f"{model['name']}  the gateway is not ready", "start it")
    return Finding("call", "note", f"{model['name']}  not called, as an agent may act")


def made(
    settings: Settings, environ: Mapping[str, str], api: Api | None, tell: Say
) -> list[Finding]:
    """Make one small call for each key: by the service at `api`, or from here where none runs."""
    if api is None:
        if (process := holder(Path(settings.storage.path))) is not None:
            # Its limits would not hold for calls from here.
            text = f"nothing was called: a service runs ({process}) and does not answer here"
            return [Finding("call", "wrong", text, "give its address by --url or ASYNCSVC_URL")]
        return from_here(settings, environ, tell)
    upstreams = Catalogue(settings, environ).upstreams
    agents = {upstream.name for upstream in upstreams if upstream.preset.acts}
    agents |= {name for name, model in settings.models.items() if model.preset == "openclaw"}
    try:
        return by_service(api, agents, tell)
    except Failure as failure:
        return [Finding("call", "wrong", f"the service makes no call: {failure}")]
