"""Network rules: addresses that clients may make the service call, and signatures of payloads.

May be imported by all packages: `egress`, `signing`.
"""
