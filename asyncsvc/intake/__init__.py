"""The intake: checks submissions and commands and appends them to the journal.

Import `Intake` from `intake`, `Control` and `Holds` from `commands`, `Decisions` from `decisions`,
`Forks` from `forks`, `Importer` from `importer` with its `staging`, `AgentChecks` from
`agent_checks`, `Quotas` from `quotas`, what a submit takes from `admission`. Nothing is ordered."""
