"""Lifecycle: what a service does at its start, at a reload, over time and at a signal.

Owns the restart after a process ended, the reload of settings, the removal of old tasks and the
meaning of SIGHUP. Import `recover` and `LearnedLimits` from `restart`, `Reloader` and `hangup` from
`reload`, `Retention` from `retention`.
"""
