"""HTTP itself, for every group of routes; nothing here knows a route.

Import `auth`, `body`, `body_memory`, `connections`, `errors`, `handshakes` (TLS), `large_answers`,
`made_once`, `proxies`, `resources` (routes), `security_headers`, `socket_protocol`, `sockets`
(WebSockets), `static_files`, `streaming`, `state` (parts of the service for routes).
"""
