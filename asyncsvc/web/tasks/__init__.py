"""Routes of tasks, schedules and models over HTTP and WebSocket, with their schemas and views.

The other groups import `routes`, `sse`, `views` and the `schemas`; `explain`, `ledger`,
`schedules`, `steering`, `tools`, `websocket` and `workspaces` have `ROUTES` of their own.
"""
