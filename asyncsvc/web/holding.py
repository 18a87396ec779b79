"""The routes that pause and resume a model.

Owns nothing but the translation. Promises the model's view as it then stands, however often it
is asked for. Never reads a body.
"""

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.web import views
from asyncsvc.web.api import house
from asyncsvc.web.errors import JSON
from asyncsvc.web.operations import operation
from asyncsvc.web.resources import resource
from asyncsvc.web.state_schemas import ModelState


@operation(answer=ModelState, errors=("model_not_found",))
async def pause(request: Request) -> Response:
    """POST /models/{name}/pause: begin no call there."""
    parts, name = house(request), request.path_params["name"]
    await parts.holds.pause(name)
    return JSON(views.model(parts, name))


@operation(answer=ModelState, errors=("model_not_found",))
async def resume(request: Request) -> Response:
    """POST /models/{name}/resume: let calls begin there again."""
    parts, name = house(request), request.path_params["name"]
    await parts.holds.resume(name)
    return JSON(views.model(parts, name))


ROUTES = [
    resource("/models/{name}/pause", POST=pause),
    resource("/models/{name}/resume", POST=resume),
]
