"""Settings: names, types and limits, loading from file, environment and flags, and reload effects.

May be imported: `settings`, `model`, `load`, `diff`, `advice`. Imports nothing but `net` and
`errors`.
"""
