"""`ROUTES`: all routes, in the order in which they are matched; also what OpenAPI describes."""

from starlette.routing import BaseRoute

from asyncsvc.web.admin import commands, figures, health, metrics, settings, transfer
from asyncsvc.web.openai import batches, chat, embeddings, files, responses
from asyncsvc.web.openai import models as v1_models
from asyncsvc.web.openapi import routes as docs
from asyncsvc.web.page import routes as page
from asyncsvc.web.tasks import (
    explain,
    ledger,
    models,
    schedules,
    steering,
    tools,
    why_slow,
    workspaces,
)
from asyncsvc.web.tasks import routes as api
from asyncsvc.web.tasks import websocket as ws

MODULES = (
    transfer, api, steering, ledger, workspaces, models, explain, why_slow, schedules, tools,
    commands, chat, embeddings, v1_models, responses, files, batches, health, metrics, figures,
    settings, docs, page, ws,
)  # fmt: skip
ROUTES: list[BaseRoute] = [route for module in MODULES for route in module.ROUTES]
