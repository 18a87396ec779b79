"""The log: how records become lines of text or JSON, without keys, and how repetitions are limited.

Import `output` (what a command sets up) and `safe_text` (control characters made visible); `lines`
and `repeats` are parts of the output.
"""
