"""A hostile client: attacks on a service, by their names, one after the other.

Prints `ready` when the first has what it needs, begins at a line on stdin, and prints at the end
one JSON object: how often each status was answered, and how many connections were cut. The
process gives way to all others (`nice`).
"""

import argparse
import os
from collections import Counter
from collections.abc import Sequence

import aiohttp
import orjson
import uvloop

from tests.benchmarks import hostile_readers, hostile_requests
from tests.benchmarks.hostile_target import ATTACKS, Target

MODULES = (hostile_readers, hostile_requests)
"""All that hold attacks."""
PROGRAM = "tests.benchmarks.hostile_client"
NICE = 10


async def run(attacks: Sequence[str], targets: Sequence[Target]) -> None:
    seen: Counter[str] = Counter()
    for name, target in zip(attacks, targets, strict=True):
        try:
            await ATTACKS[name](target)
        except aiohttp.ClientError:
            if len(attacks) == 1:
                raise
            seen["not prepared"] += 1  # an attack before it has shut the service for all
        seen += target.seen
    print(orjson.dumps(dict(seen)).decode(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attack", nargs="+", choices=sorted(ATTACKS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", default="")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="of what is prepared")
    given = parser.parse_args()
    os.nice(NICE)
    targets = [
        Target(given.port, given.token, given.seconds, given.scale, waits=number == 0)
        for number in range(len(given.attack))
    ]
    uvloop.run(run(given.attack, targets))


if __name__ == "__main__":
    main()
