"""Network rules: addresses that clients may make the service call, signatures of payloads, and
bounds on JSON from outside.

May be imported by all packages: `egress`, `json_bounds`, `signing`.
"""
