"""``python -m asyncsvc.simulator``: the simulated provider as a process of its own.

One line on stdout says where it listens; SIGINT and SIGTERM end it at once with status 0. A wrong
profile or a taken port ends it with status 2 and a line on stderr.
"""

import argparse
import sys
from collections.abc import Sequence

from asyncsvc.simulator import Profile, ProfileError, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal comes; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m asyncsvc.simulator", description="A simulated OpenAI-compatible provider."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--profile", metavar="FILE", help="TOML; without it the built-in one")
    options = parser.parse_args(argv)
    try:
        profile = Profile.load(options.profile) if options.profile else Profile.builtin()
        serve(profile, options.host, options.port, _announce)
    except (ProfileError, OSError, OverflowError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _announce(url: str) -> None:
    print(f"simulator listening on {url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
