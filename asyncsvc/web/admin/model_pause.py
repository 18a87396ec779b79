"""The routes that pause and resume a model.

Owns nothing but the translation. Promises the model's view as it then stands, however often it
is asked for. Never reads a body.
"""

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks import views
from asyncsvc.web.tasks.routes import services
from asyncsvc.web.tasks.service_schemas import ModelState


@operation(answer=ModelState, errors=("model_not_found", "not_found"))
async def pause(request: Request) -> Response:
    """POST /models/{name}/pause: begin no call there."""
    parts, name = _named(request)
    await parts.holds.pause(name)
    return JSON(views.model(parts, name))


@operation(answer=ModelState, errors=("model_not_found", "not_found"))
async def resume(request: Request) -> Response:
    """POST /models/{name}/resume: let calls begin there again."""
    parts, name = _named(request)
    await parts.holds.resume(name)
    return JSON(views.model(parts, name))


def _named(request: Request) -> tuple[Services, str]:
    """The model's name for the name or the alias in the path."""
    parts = services(request)
    return parts, parts.catalogue.name_of(request.path_params["name"])


ROUTES = [
    resource("/models/{name:path}/pause", POST=pause),
    resource("/models/{name:path}/resume", POST=resume),
]
