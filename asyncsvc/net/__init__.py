"""Network rules: addresses that clients may ask for, signatures, certificates, and bounds.

May be imported by all packages: `allowed_hosts`, `bounded_reads` (of sockets), `egress`,
`json_bounds`, `pinned` (connections to checked addresses), `response_heads`, `signing` (of
payloads), `tls`, `web_addresses`.
"""
