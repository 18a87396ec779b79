"""OpenAI's API, on the same queue: each call is a task."""
