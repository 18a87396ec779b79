"""Commands on the running service: pause and resume a model, read the settings again.

A pause and a resume answer with the model as it then stands, however often they are sent. A reload
answers with all faults of the settings at once, and shows no secret.
"""

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import Permission
from asyncsvc.errors import InvalidRequest, SettingsError, ShuttingDown
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON, check_names
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.tasks import models
from asyncsvc.web.tasks.models import ModelState
from asyncsvc.web.tasks.schemas import Reloaded

BODY_BYTES = 1024
RETRY_AFTER_S = 5.0


@operation(scope=Permission.ADMIN, answer=ModelState, errors=("model_not_found", "not_found"))
async def pause(request: Request) -> Response:
    """POST /models/{name}/pause: begin no call there."""
    parts, name = _named(request)
    await parts.holds.pause(name)
    return JSON(models.model(parts, name))


@operation(scope=Permission.ADMIN, answer=ModelState, errors=("model_not_found", "not_found"))
async def resume(request: Request) -> Response:
    """POST /models/{name}/resume: let calls begin there again."""
    parts, name = _named(request)
    await parts.holds.resume(name)
    return JSON(models.model(parts, name))


def _named(request: Request) -> tuple[Services, str]:
    """The model's name for the name or the alias in the path."""
    parts = services(request)
    return parts, parts.catalogue.name_of(request.path_params["name"])


@operation(
    scope=Permission.ADMIN,
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
        if given.strip():
            check_names(body.as_object(given), (), "field of a reload; it takes none")
    if parts.intake.closed:
        raise ShuttingDown("the service is stopping", retry_after=RETRY_AFTER_S)
    try:
        found = await parts.reload()
    except SettingsError as error:
        raise InvalidRequest(str(error)) from None
    return JSON(found.as_dict())


ROUTES = [
    resource("/models/{name:path}/pause", POST=pause),
    resource("/models/{name:path}/resume", POST=resume),
    resource("/admin/reload", POST=reload),
]
