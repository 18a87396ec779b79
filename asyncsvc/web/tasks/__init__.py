"""Routes of tasks, schedules and models over HTTP and WebSocket, with their schemas and views.

The other groups import `routes`, `sse`, `models`, `views`, `schemas`, and `event_schemas` and
`socket_operations` to describe them; `explain`, `ledger`, `models`, `schedules`, `steering`,
`tools`, `websocket`, `why_slow` and `workspaces` have `ROUTES` of their own.
"""
