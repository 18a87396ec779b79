"""Scheduling: where tasks wait, in which order they go, and to which model.

`scheduler.Scheduler` is what other packages hold; `eta.EtaEstimator` forecasts a start,
`cache` holds finished answers, `candidates` has the types `AccountSlot` and `Claim`. The other
modules are parts of the scheduler.
"""
