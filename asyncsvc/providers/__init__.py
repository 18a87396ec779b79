"""Providers: requests in their dialects, streamed answers, errors and accounts of the settings.

May be imported: `addresses`, `agents`, `client`, `registry`, `upstream`, `tokens`, `tools`,
`trial`, `answers.delta`. Limits of accounts belong to `limits`, the order of tasks to `scheduling`.
"""
