"""`POST /tasks` in one step: from a whole request to its answer, without an ASGI call.

Owns the way of nearly all submits: small, of known length, without an Idempotency-Key, from no
browser of another origin. Promises the same checks and the same answers as the application gives
(web/tasks/submit.py), which takes all others. Never reads from a connection, never writes to one.

An ASGI call costs a task of the loop, an event, six coroutines and three messages
(docs/decisions/0030-a-submit-in-one-step.md).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.responses import Response

from asyncsvc.config.settings import Settings
from asyncsvc.errors import AsyncsvcError, RequestError
from asyncsvc.intake.admission import Accepted
from asyncsvc.intake.intake import Intake
from asyncsvc.web.http import errors
from asyncsvc.web.http.auth import Authenticator, refusal
from asyncsvc.web.http.body_memory import SMALL
from asyncsvc.web.tasks import submit
from asyncsvc.web.tasks.submit import PATH, Answer

Scope = Mapping[str, Any]
Reply = Callable[[Answer], None]

UNSUITED = frozenset(
    {
        *(b"idempotency-key", b"origin", b"transfer-encoding", b"content-encoding"),
        *(b"expect", b"upgrade"),
    }
)
"""Headers that ask for more than one step."""


class Express:
    """`suits` looks at a request's head, `take` has the rest."""

    def __init__(self, intake: Intake, settings: Settings, doors: Authenticator) -> None:
        self._intake = intake
        self._settings = settings
        self._doors = doors

    def suits(self, scope: Scope) -> bool:
        """Whether `take` may have the request once its body is there."""
        if scope["path"] != PATH or scope["method"] != "POST":
            return False
        length = -1
        for name, value in scope["headers"]:
            if name in UNSUITED:
                return False
            if name == b"content-length" and value.isdigit():
                length = int(value)
        return 0 <= length <= min(SMALL, self._settings.queue.max_task_bytes)

    def take(self, scope: Scope, body: bytes, reply: Reply) -> None:
        """Take the task; `reply` is called once: now, or when the task is on the disk."""
        try:
            owner = self._doors.enter(scope)
        except RequestError as error:
            reply(_shown(refusal(error)))
            return
        try:
            self._intake.turn_away()
            told = partial(_tell, scope, reply)
            self._intake.offer(submit.read(body), owner, told)
        except Exception as error:
            reply(_refused(scope, error))


def _tell(scope: Scope, reply: Reply, outcome: Accepted | AsyncsvcError) -> None:
    if isinstance(outcome, Accepted):
        reply(submit.answer_of(outcome))
    else:
        reply(_refused(scope, outcome))


def _refused(scope: Scope, error: Exception) -> Answer:
    told = errors.as_request_error(error)
    if told is None:
        return _shown(errors.fault(scope["method"], scope["path"], error))
    return _shown(errors.response(told))


def _shown(response: Response) -> Answer:
    return response.status_code, response.raw_headers, bytes(response.body)
