"""Tasks as pure values: requests, states, transitions, and the body of a submission.

Import `state` (Task, Request, `apply`, `create`), `marks` (its trace), `submission`, `parameters`
and `unknown_fields`. Nothing here does I/O.
"""
