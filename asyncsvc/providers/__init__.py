"""Providers: requests in their dialects, streamed answers, errors and accounts of the settings.

May be imported: `client`, `registry`, `upstream`, `tokens`, `errors`, `embeddings`, `openclaw`.
Limits of the accounts belong to `limits`, the order of the tasks to `scheduling`.
"""
