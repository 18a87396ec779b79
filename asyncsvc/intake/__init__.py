"""The intake: checks submissions and commands and appends them to the journal.

Import `Intake` from `intake`, `Control` and `Holds` from `commands`, `Decisions` from `decisions`,
`Forks` from `forks`, `Importer` from `importer` with its `staging`, `AgentChecks` from
`agent_checks`, the types of a submit and of its keys from `admission`. No task is ordered here."""
