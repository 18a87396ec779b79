"""The intake: checks submissions and commands and appends them to the journal.

Import `Intake` from `intake`, `Control` and `Holds` from `commands`, `Decisions` from `decisions`,
`Forks` from `forks`, `Importer` from `importer`, `AgentChecks` from `agent_checks`, and the types
of a submit and of idempotency keys from `admission`. Nothing here orders a task."""
