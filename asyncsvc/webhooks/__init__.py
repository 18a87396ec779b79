"""Webhooks: signed notices of finished tasks, delivered at least once, with retries per host.

May be imported: `deliveries.Webhooks` and what it declares; `posting` is for this package.
"""
