"""The web page at `/`, and the files that it consists of at `/page/`.

May be imported: `routes`, with `ROUTES` and `Page`. The files are in `static`; they are a client
of the service's API like any other, and hold nothing of tasks or settings.
"""
