"""Network rules: addresses that clients may make the service call, signatures, certificates.

May be imported by all packages: `egress`, `signing` (of payloads), `tls` (of the server).
"""
