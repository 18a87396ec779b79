"""HTTP itself, for every group of routes; nothing here knows a route.

Import `auth`, `body` and `body_memory` (request bodies), `connections`, `errors` (error responses),
`handshakes` (of TLS), `proxies` (that are trusted), `resources` (routes and their declarations),
`security_headers`, `socket_protocol` and `sockets` (WebSockets), `streaming`, and `state` (parts
of the service that routes use).
"""
