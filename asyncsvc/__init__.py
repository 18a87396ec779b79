"""asyncsvc: a single-process task service for LLM work."""

__version__ = "0.1.0"
