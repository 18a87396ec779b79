"""HTTP itself, for every group of routes; nothing here knows a route.

Import `auth`, `body` and `body_memory` (request bodies), `connections`, `errors` (error responses),
`large_answers`, `resources` (routes and their declarations), `sockets` (WebSockets), `streaming`,
and `state` (the parts of the service that routes use).
"""
