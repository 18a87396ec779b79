"""OpenClaw, an agent gateway: chat runs over its WebSocket, their status after a cut, readiness.

Only `providers.client` imports `chat`, `runs` and `socket`; all others go through
`providers.agents`.
"""
