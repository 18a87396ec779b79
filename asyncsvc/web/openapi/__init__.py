"""The OpenAPI document (`/openapi.json`) and its page for people (`/docs`), from the routes.

May be imported: `routes.ROUTES` and `routes.Description`. The other modules are the package's own.
"""
