"""Settings: names, types and limits, loading, and what a reload changes.

May be imported: `settings`, `model`, `telemetry`, `load`, `environment`, `listening` for the
address alone, `diff`, `advice`, and `secrets` for what looks like a key. Imports nothing but `net`
and `errors`.
"""
