"""A hostile client: one attack on a service, by its name, in a process of its own.

Prints `ready` when what it needs is there, begins at a line on stdin, and prints at the end one
JSON object: how often each status was answered, and how many connections were cut. The process
gives way to all others (`nice`).
"""

import argparse
import os

import orjson
import uvloop

from tests.benchmarks import hostile_readers, hostile_requests
from tests.benchmarks.hostile_target import ATTACKS, Target

MODULES = (hostile_readers, hostile_requests)
"""All that hold attacks."""
PROGRAM = "tests.benchmarks.hostile_client"
NICE = 10


async def run(name: str, target: Target) -> None:
    await ATTACKS[name](target)
    print(orjson.dumps(dict(target.seen)).decode(), flush=True)


def described(name: str) -> str:
    """What the attack does, in its own words."""
    words = (ATTACKS[name].__doc__ or "").splitlines()
    return words[0].rstrip(".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attack", choices=sorted(ATTACKS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", default="")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="of what is prepared")
    given = parser.parse_args()
    os.nice(NICE)
    target = Target(given.port, given.token, given.seconds, given.scale)
    uvloop.run(run(given.attack, target))


if __name__ == "__main__":
    main()
