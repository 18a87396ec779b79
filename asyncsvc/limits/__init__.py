"""The limits of one provider account, and the verdict on whether it may take a call now.

May be imported: `account` (the limiter, permits), `verdict` (stages, verdicts, wait reasons),
`headers` and `backoff` (what providers say, pauses), and the parts that a limiter is made of.
"""
