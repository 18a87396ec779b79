"""Scheduling: where tasks wait, in which order they go, and to which model.

Import `Scheduler` from `scheduler`, `EtaEstimator` from `eta`, `Steps` and `shielded` from `steps`;
`cache` holds finished answers, `candidates` has the types `AccountSlot` and `Claim`.
"""
