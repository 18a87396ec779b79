"""Routes of tasks, schedules and models over HTTP and WebSocket, with their schemas and views.

The other groups import `routes`, `sse`, `models`, `views` and the `schemas`; `explain`, `ledger`,
`models`, `schedules`, `steering`, `tools`, `websocket`, `why_slow`, `workspaces` have `ROUTES` too.
"""
