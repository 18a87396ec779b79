"""Every error that has a meaning outside the function that raises it.

Owns the one tree below. Promises that each class knows its own code, so that no caller maps
exceptions to codes a second time. Never holds a library's exception type: those are
translated at the floor that owns the library. It is longer than 300 lines because one tree is
read in one place.

    AsyncsvcError
    ├── SettingsError              the settings do not add up; one line per fault
    ├── StartError                 the service cannot start here (lock, schema, directory)
    │   └── UnsafeFile             a link or no plain file stands where a file of ours should
    ├── IllegalTransition          the state table has no such arrow (409)
    │   └── StaleLease             another run of the task has begun
    ├── StorageUnavailable         the disk refused a write; nothing was acknowledged (503)
    │   ├── ReadRefused            … or a read
    │   │   └── ReadTooSlow        … which takes longer than it may, or too many others wait
    │   ├── NoRoom                 … or it was not asked: too little of the disk is free
    │   ├── DatabaseLost           the file was removed or replaced while it is open
    │   └── DatabaseDamaged        the file's content is damaged: waiting does not help
    ├── RequestError               a client's mistake: status, code, param
    │   ├── InvalidJson 400 · InvalidHttp 400 · HeadTooLarge 431 · Unauthorized 401 · Forbidden 403
    │   ├── TaskNotFound 404 · ModelNotFound 404 · NotFound 404 · MethodNotAllowed 405
    │   ├── RequestTimeout 408 · Conflict 409 · TaskTooLarge 413 · InvalidRequest 422
    │   ├── UnsupportedEncoding 415
    │   ├── TooManyAttempts 429 · ClientRateLimited 429 · QueueFull 429
    │   └── NoModel 503 · Overloaded 503 · ShuttingDown 503 · SandboxUnavailable 503
    └── ProviderError              why a call upstream failed: code, retry rule, breaker rule
        ├── ConnectTimeout · FirstTokenTimeout · IdleTimeout · TaskTimeout · Expired
        ├── RateLimited
        │   └── ConcurrencyLimited  too many calls at once, rather than too many a minute
        ├── UpstreamOverloaded
        │   ├── GateClosed          between the permit and the call: the provider was not called
        │   └── GatewayUnavailable  a gateway that starts or stops: it refused before it began
        │       └── GatewayAway      nothing listens there, as while it restarts
        ├── QuotaExhausted          `retry_after`: until the quota is renewed, where that is known
        │   └── RequestTooCostly    the balance is too low for this request, not for a smaller one
        ├── UpstreamRejected
        │   ├── UpstreamUnsupported the account cannot do what this request asks for
        │   └── FieldRefused        the provider does not know a field that the service added
        ├── Unexplained             a refusal that names neither key, account nor model
        │   └── AuthUnexplained · ModelUnexplained
        ├── UpstreamAuth · ContextTooLong · ContentFiltered · ModelGone
        ├── UpstreamDisconnected
        │   └── KeptConnectionLost   a connection that was kept had been forgotten: at no cost
        ├── UpstreamInvalid · UpstreamTooLarge · EmptyAnswer
        └── InterruptedUnknown · InternalError · MaxSteps
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self


class AsyncsvcError(Exception):
    """The root: everything below has a message meant for people."""


class SettingsError(AsyncsvcError):
    """The settings are wrong; `lines` holds one sentence per fault."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class StartError(AsyncsvcError):
    """The service cannot start; the message says what to do about it."""


class UnsafeFile(StartError):
    """A link, or something that is no plain file, stands at the name of a file of ours, or a file
    there is not what it should be. Nothing was opened or changed."""


class IllegalTransition(AsyncsvcError):
    """The state table has no arrow for this; the task is unchanged. `word` is what people call
    the cause, where that is another word."""

    def __init__(self, state: str, cause: str, word: str | None = None) -> None:
        super().__init__(f"a task that is {state} cannot be {word or cause}")
        self.state = state
        self.cause = cause


class StaleLease(IllegalTransition):
    """The entry comes from a run that has lost its task to a later one; nothing has changed."""

    def __init__(self, state: str) -> None:
        super().__init__(state, "changed: another run has begun")


class StorageUnavailable(AsyncsvcError):
    """The database refused a write; whatever waited for it has not happened."""


class ReadRefused(StorageUnavailable):
    """The database refused a read."""


class ReadTooSlow(ReadRefused):
    """The read goes over too many rows for its time limit, or too many such reads are waiting."""


class NoRoom(StorageUnavailable):
    """Too little of the disk is free for a write that can wait or be refused."""


class DatabaseLost(StorageUnavailable):
    """The database's file is no longer where it was opened: what is written would be gone."""


class DatabaseDamaged(StorageUnavailable):
    """Something in the database cannot be read as it was written; trying again cannot help."""


class RequestError(AsyncsvcError):
    """An answer to a client in OpenAI's error shape."""

    status: ClassVar[int] = 500
    code: str = "internal"
    type: ClassVar[str] = "invalid_request_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after
        self.at: int | None = None
        """Which one it is about, where several came at once."""

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {
            "error": {
                "message": str(self),
                "type": self.type,
                "code": self.code,
                "param": self.param,
            }
        }


class InvalidJson(RequestError):
    status, code = 400, "invalid_json"


class InvalidHttp(RequestError):
    status, code = 400, "invalid_http"


class HeadTooLarge(RequestError):
    status, code = 431, "head_too_large"


class Unauthorized(RequestError):
    status, code, type = 401, "unauthorized", "authentication_error"


class Forbidden(RequestError):
    """403; `code` is one of forbidden_origin, forbidden_host, forbidden_scope."""

    status, type = 403, "permission_error"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotFound(RequestError):
    status, code = 404, "not_found"


class TaskNotFound(RequestError):
    status, code = 404, "task_not_found"

    def __init__(self, task_id: str) -> None:
        super().__init__(f"there is no task {task_id!r}", param="task_id")


class ModelNotFound(RequestError):
    status, code = 404, "model_not_found"


class MethodNotAllowed(RequestError):
    status, code = 405, "method_not_allowed"


class Conflict(RequestError):
    """409; `code` is illegal_transition or idempotency_conflict."""

    status = 409

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RequestTimeout(RequestError):
    status, code = 408, "request_timeout"


class TaskTooLarge(RequestError):
    status, code = 413, "task_too_large"


class UnsupportedEncoding(RequestError):
    status, code = 415, "unsupported_encoding"


class InvalidRequest(RequestError):
    status, code = 422, "invalid_request"


class TooManyAttempts(RequestError):
    """Too many wrong tokens came from one address."""

    status, code, type = 429, "too_many_attempts", "rate_limit_error"


class ClientRateLimited(RequestError):
    """A client has submitted as many tasks in a minute as it may."""

    status, code, type = 429, "rate_limited", "rate_limit_error"


class QueueFull(RequestError):
    status, code, type = 429, "queue_full", "rate_limit_error"


class NoModel(RequestError):
    status, code, type = 503, "no_model", "server_error"


class SandboxUnavailable(RequestError):
    """No program can be run safely here; waiting does not help."""

    status, code, type = 503, "sandbox_unavailable", "server_error"


class Overloaded(RequestError):
    status, code, type = 503, "overloaded", "server_error"


class ShuttingDown(RequestError):
    status, code, type = 503, "shutting_down", "server_error"


class ProviderError(AsyncsvcError):
    """Why a call upstream did not give an answer.

    `code` is the contract's; `retryable` whether `/retry` can help; `again` whether the
    service itself tries again; `trips` whether it counts for the breaker; `slow_down`
    whether the provider only asked to wait, which costs no attempt. `retry_after` is in
    seconds, as the provider names them.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = True
    again: ClassVar[bool] = True
    trips: ClassVar[bool] = True
    slow_down: ClassVar[bool] = False
    status: int | None = None
    """The HTTP status of the answer that stands for it, where there was one."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def reworded(self, words: Callable[[str], str]) -> Self:
        """The same with another message, which `words` makes of it."""
        self.args = (words(str(self)), *self.args[1:])
        return self

    def bare(self) -> Self:
        """The same without the frames that it came through. They hold what was being read, up
        to megabytes, and an error is kept for as long as its task waits for another try."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)

    def as_dict(self) -> dict[str, Any]:
        """The `error` of a failed task."""
        return {"code": self.code, "message": str(self), "retryable": self.retryable}


class ConnectTimeout(ProviderError):
    code = "connect_timeout"


class FirstTokenTimeout(ProviderError):
    code = "first_token_timeout"


class IdleTimeout(ProviderError):
    code = "idle_timeout"


class TaskTimeout(ProviderError):
    """The whole task took longer than its limit; trying again would only take longer."""

    code, again, trips = "timeout", False, False


class Expired(ProviderError):
    """The task waited longer in the queue than `queue.ttl_s`."""

    code, again, trips = "expired", False, False


class RateLimited(ProviderError):
    """The provider asks for fewer calls; not a fault of the task nor of the provider."""

    code, trips, slow_down = "rate_limited", False, True


class ConcurrencyLimited(RateLimited):
    """Too many calls of the account were under way: fewer at once help, waiting may not."""


class UpstreamOverloaded(ProviderError):
    code = "overloaded"


class GateClosed(UpstreamOverloaded):
    """The account has closed after the permit was given and before the call was made.

    The breaker opened, a refusal named a time, or a pause came. The provider was not called.
    """

    trips, slow_down = False, True


class GatewayUnavailable(UpstreamOverloaded):
    """An agent gateway that starts or stops refused the call before it began: nothing has
    acted, and it will be back, so the task waits for it at no cost."""

    trips, slow_down = False, True


class GatewayAway(GatewayUnavailable):
    """Nothing listens where the gateway should be."""

    code = "upstream_disconnected"


class QuotaExhausted(ProviderError):
    """No balance, or a cap is reached; `retry_after` says when it ends, if the provider did."""

    code, again, trips = "quota_exhausted", False, False


class RequestTooCostly(QuotaExhausted):
    """The balance does not cover this request; a smaller one may pass."""


class Unexplained(ProviderError):
    """A 401, 403 or 404 that names neither the key, the account nor the model.

    A proxy, a firewall or a challenge page sends such answers as often as the provider does.
    `status` and the words tell whether two of them are alike.
    """

    trips = False

    def __init__(
        self, message: str, *, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status


class AuthUnexplained(Unexplained):
    code = "upstream_auth"


class ModelUnexplained(Unexplained):
    code = "model_gone"


class UpstreamAuth(ProviderError):
    """The provider names the key or the account that it refuses."""

    code, retryable, again, trips = "upstream_auth", False, False, False


class UpstreamRejected(ProviderError):
    code, retryable, again, trips = "upstream_rejected", False, False, False


class UpstreamUnsupported(UpstreamRejected):
    """The account cannot do what this request asks for; another account may."""


class FieldRefused(UpstreamRejected):
    """The provider refused the call and named a field that the service had added by itself;
    `fields` are to be left out when it is asked again."""

    def __init__(self, message: str, fields: frozenset[str]) -> None:
        super().__init__(message)
        self.fields = fields


class ContextTooLong(ProviderError):
    code, retryable, again, trips = "context_too_long", False, False, False


class ContentFiltered(ProviderError):
    code, retryable, again, trips = "content_filtered", False, False, False


class ModelGone(ProviderError):
    code, retryable, again, trips = "model_gone", False, False, False


class UpstreamDisconnected(ProviderError):
    """The connection broke: refused, reset, or ended in the middle of a stream."""

    code = "upstream_disconnected"


class KeptConnectionLost(UpstreamDisconnected):
    """A connection that was kept broke before any byte of an answer came: the other side had
    dropped it. That says nothing of the provider; the task is called again at no cost."""

    trips, slow_down = False, True


class UpstreamInvalid(ProviderError):
    code = "upstream_invalid"


class UpstreamTooLarge(ProviderError):
    """The answer is larger than any honest one; another try would only fetch it again."""

    code, retryable, again, trips = "upstream_too_large", False, False, False


class EmptyAnswer(ProviderError):
    """The provider ended the answer without any: that is about the request, so it says nothing of
    the provider's health."""

    code, trips = "empty_answer", False


class InterruptedUnknown(ProviderError):
    """An agent gateway was cut in mid-run: it may have acted: never repeated by itself."""

    code, again = "interrupted_unknown", False


class InternalError(ProviderError):
    """A fault of ours; the service stays up and the task is tried again."""

    code, trips = "internal", False


class MaxSteps(ProviderError):
    """An agent has used up its steps or its tokens, or repeats itself."""

    code = "max_steps"
    again, trips = False, False


def without_frames(error: BaseException) -> None:
    """Forget through which calls an error and its causes came. Their frames hold what was read, and
    often what holds the error: a cycle that waits for the garbage collector."""
    found: BaseException | None = error
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
