"""The self-test: durability proved on this machine, by kills under load and an oracle.

No module but the command line imports from here; the service does not. May be imported:
`selftest`.
"""
