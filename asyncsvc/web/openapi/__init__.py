"""The OpenAPI document (`/openapi.json`) and its page for people (`/docs`).

Both are made of the declared routes; `routes.Description` holds them once they are made.
"""
