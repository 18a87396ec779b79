"""Rehearsal: the past replayed under other settings, on virtual time.

The tasks and the call times come from the database; the scheduler and the limits are those of the
service; no provider is called and nothing is written. May be imported: `comparison`,
`scenario`, `suggestions`.
"""
