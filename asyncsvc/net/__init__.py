"""Network rules: addresses that clients may make the service call, signatures, certificates, and
bounds on JSON from outside.

May be imported by all packages: `egress`, `json_bounds`, `signing` (of payloads), `tls` (of the
server).
"""
