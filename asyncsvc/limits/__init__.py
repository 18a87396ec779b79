"""The limits of one provider account, and the verdict on whether it may take a call now.

May be imported: `account` (the limiter, permits), `verdict` (stages, verdicts, wait reasons),
`headers` and `backoff` (what providers ask for, pauses), and of the limiter's parts `adaptive`,
`breaker` and `sliding_window`.
"""
