"""The HTTP, WebSocket and OpenAPI interfaces of the service, and its web page.

`routes.ROUTES` are all routes; `http` has authentication, bodies, connections and errors for
them; `tasks`, `admin`, `openai`, `openapi` and `page` are one group of routes each. Only `app` and
`server` import from here.
"""
