"""The documents of the HTTP calls (`/openapi.json`) and of the WebSockets (`/asyncapi.json`), and
their page for people (`/docs`), all made from the routes.

May be imported: `routes.ROUTES` and `routes.Description`. The other modules are the package's own.
"""
