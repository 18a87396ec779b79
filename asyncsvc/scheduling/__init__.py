"""Scheduling: where tasks wait, in which order they go, and to which model.

Import `Scheduler` from `scheduler`, `EtaEstimator` from `eta`, `Steps` and `shielded` from `steps`,
the types of `candidates` and finished answers from `cache`. The application builds a scheduler of
`dispatcher` and `timers`.
"""
