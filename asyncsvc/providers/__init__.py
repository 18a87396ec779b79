"""Providers: requests in their dialects, streamed answers, errors and accounts of the settings.

May be imported: `addresses`, `agents`, `client`, `registry`, `upstream`, `tokens`, `tools`,
`answers.delta`. Limits of the accounts belong to `limits`, the order of the tasks to `scheduling`.
"""
