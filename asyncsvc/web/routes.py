"""`ROUTES`: all routes, in the order in which they are matched; also what OpenAPI describes."""

from starlette.routing import BaseRoute

from asyncsvc.web.admin import health, metrics, reload, transfer
from asyncsvc.web.admin import model_pause as holding
from asyncsvc.web.openai import batches, chat, embeddings, files, responses
from asyncsvc.web.openai import models as v1_models
from asyncsvc.web.openapi import routes as docs
from asyncsvc.web.tasks import explain, schedules
from asyncsvc.web.tasks import routes as api
from asyncsvc.web.tasks import websocket as ws

ROUTES: list[BaseRoute] = [
    *api.ROUTES,
    *explain.ROUTES,
    *schedules.ROUTES,
    *holding.ROUTES,
    *chat.ROUTES,
    *embeddings.ROUTES,
    *v1_models.ROUTES,
    *responses.ROUTES,
    *files.ROUTES,
    *batches.ROUTES,
    *reload.ROUTES,
    *health.ROUTES,
    *metrics.ROUTES,
    *transfer.ROUTES,
    *docs.ROUTES,
    *ws.ROUTES,
]
