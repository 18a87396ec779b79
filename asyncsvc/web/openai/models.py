"""`GET /v1/models`: the enabled models of the settings, their aliases, `auto` and its classes.

Each id of the list is accepted as `model`. No provider is called.
"""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import Permission
from asyncsvc.errors import ModelNotFound
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.openai import schemas
from asyncsvc.web.openai.errors import endpoint
from asyncsvc.web.openai.requests import AUTO, CHAT_CLASSES

OWNER = "asyncsvc"


@endpoint(scope=Permission.READ, answer=schemas.ModelList)
async def listing(request: Request) -> Response:
    """GET /v1/models: what can be asked for as `model`."""
    return JSON({"object": "list", "data": list(_known(services(request)))})


@endpoint(scope=Permission.READ, answer=schemas.Model, errors=("model_not_found", "not_found"))
async def show(request: Request) -> Response:
    """GET /v1/models/{id}: one of them."""
    wanted, parts = request.path_params["model_id"], services(request)
    for model in _known(parts):
        if model["id"] == wanted:
            return JSON(model)
    why = parts.catalogue.lacking().get(parts.catalogue.name_of(wanted))
    message = f"model {wanted} is disabled: {why}" if why else f"there is no model {wanted[:80]!r}"
    raise ModelNotFound(message, param="model")


def _known(parts: Services) -> Iterator[schemas.Model]:
    lacking, since = parts.catalogue.lacking(), parts.started_ms // 1000
    enabled = {n: s for n, s in parts.settings.models.items() if n not in lacking}
    for name, settings in enabled.items():
        owner = settings.preset or OWNER
        for known in (name, *settings.aliases):
            yield _model(known, since, owner, settings.type)
    if enabled:
        yield _model(AUTO, since, OWNER, None)
    if any(settings.type == "chat" for settings in enabled.values()):
        for kind in CHAT_CLASSES:
            yield _model(f"{AUTO}:{kind}", since, OWNER, "chat")


def _model(name: str, since: int, owner: str, kind: str | None) -> schemas.Model:
    return {"id": name, "object": "model", "created": since, "owned_by": owner, "type": kind}


ROUTES = [
    resource("/v1/models", GET=listing),
    resource("/v1/models/{model_id:path}", GET=show),
]
