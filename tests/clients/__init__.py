"""Programs that speak OpenAI's API, as they really send their requests."""
