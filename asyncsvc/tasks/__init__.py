"""Tasks as pure values: requests, states, transitions, and the body of a submission.

Import `state` (Task, Request, `apply`, `create`), `marks` (its course over time), `trace` (W3C
contexts), `submission`, `parameters` and `unknown_fields`. Nothing here does I/O.
"""
