"""HTTP itself: connections, authentication, request bodies, resources, error responses, WebSockets.

Every group of routes imports from here; this package imports none of them.
"""
