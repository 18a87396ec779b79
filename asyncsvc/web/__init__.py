"""The HTTP, WebSocket and OpenAPI interfaces of the service.

`routes.ROUTES` are all routes; `http` has authentication, bodies, connections and errors for
them; `tasks`, `admin`, `openai` and `openapi` are one group of routes each. Only `app` and
`server` import from here.
"""
