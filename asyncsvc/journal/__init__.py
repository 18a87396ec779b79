"""The journal: every change of a task is appended here, committed and then published.

Import `journal.Journal` and the entries beside it, and `counters.TaskCounters`. `transaction`,
`long_texts` and `subscriptions` are parts of the journal.
"""
