"""The self-test: durability proved on this machine, by kills under load and an oracle.

Import `SelfTest` from `selftest`, the lines of its page from `checks`, and from `processes` how the
service is started. `oracle`, `records`, `crashes` and `agents` are used by the benchmarks too.
"""
