"""Network rules: addresses that clients may make the service call, signatures, certificates, and
bounds on JSON from outside.

May be imported by all packages: `allowed_hosts`, `egress`, `json_bounds`, `pinned` (connections to
checked addresses), `signing` (of payloads), `tls` (of the server).
"""
