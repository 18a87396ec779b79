"""OpenClaw, an agent gateway: chat runs over its WebSocket, their status after a cut, readiness.

Only `providers.client` imports this package; all others go through `providers.agents`.
"""
