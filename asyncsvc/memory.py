"""Whether the system gives memory for what comes next.

Owns the question. Promises MemoryError, and nothing else, where the answer is no. Never keeps
anything.

JSON of many megabytes is read and written by orjson, which ends the process where it is refused
memory, and takes a text that it cannot hold for one that is not JSON. So what such a step may need
at most is asked for and given back before it: an address space that is limited (`ulimit -v`, a
32-bit system) then costs an answer of 503 and not the service.
"""

JSON_FACTOR = 16
"""Bytes that orjson may take for a byte of text: it keeps eight for each, all of which may be
escaped, and grows its buffer in powers of two."""
SPARE_BYTES = 32 << 20
"""For what goes on beside: the writer's copy, other connections, a thread's own heap."""
LARGE_BYTES = 1 << 20
"""Below this a step fits into what the process has already."""


def expect(json_bytes: int) -> None:
    """Raises MemoryError where so much JSON can be neither read nor written now."""
    if json_bytes > LARGE_BYTES:
        # Never touched, so it costs no memory and some microseconds.
        bytes(JSON_FACTOR * json_bytes + SPARE_BYTES)
