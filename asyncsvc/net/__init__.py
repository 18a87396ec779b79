"""Network rules: addresses that clients may ask for, signatures, certificates, and bounds.

May be imported by all packages: `allowed_hosts`, `egress`, `interim` (answers before a response),
`json_bounds`, `pinned` (connections to checked addresses), `signing` (of payloads), `tls`.
"""
