"""Routes of tasks, schedules and models over HTTP and WebSocket, with their schemas and views.

The other groups import `routes`, `sse`, `tools`, `views` and the `schemas`; `explain`,
`schedules` and `websocket` have `ROUTES` of their own.
"""
