"""`POST /admin/reload`: the settings are read again.

Owns how a reload is asked for and told. Promises all faults of the settings in one answer, and
no secret in any. Never decides what takes effect when.
"""

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.errors import InvalidRequest, SettingsError, ShuttingDown
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.tasks.routes import services
from asyncsvc.web.tasks.service_schemas import Reloaded

BODY_BYTES = 1024
RETRY_AFTER_S = 5.0


@operation(
    answer=Reloaded,
    errors=(
        "invalid_request", "invalid_json", "task_too_large", "unsupported_encoding",
        "shutting_down",
    ),
)  # fmt: skip
async def reload(request: Request) -> Response:
    """POST /admin/reload: read the settings again; a fault changes nothing."""
    parts = services(request)
    async with body.ReceivedBody(request, BODY_BYTES, parts.bodies) as (given, _):
        if given.strip() and (fields := body.as_object(given)):
            name = next(iter(fields))
            raise InvalidRequest(f"{name!r} is not a field of a reload; it takes none", param=name)
    if parts.intake.closed:
        raise ShuttingDown("the service is stopping", retry_after=RETRY_AFTER_S)
    try:
        found = await parts.reloader.reload()
    except SettingsError as error:
        raise InvalidRequest(str(error)) from None
    return JSON(found.as_dict())


ROUTES = [resource("/admin/reload", POST=reload)]
