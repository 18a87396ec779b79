"""The score of the wild table: what providers really send, and what must come of it.

A case counts as one and holds where it holds at each of its doors. The exit status is 0 only
where all cases hold.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.report import Report, progress
from tests.wild.cases import TABLES, Case, grouped, load
from tests.wild.runner import Verdict, judged


async def run(cases: Sequence[Case]) -> dict[str, list[Verdict]]:
    """The verdicts of each case, group after group."""
    found: dict[str, list[Verdict]] = {case.id: [] for case in cases}
    for name, group in grouped(cases).items():
        progress(f"{name}: {len(group)} cases")
        with tempfile.TemporaryDirectory(prefix="asyncsvc-wild-") as folder:
            for verdict in await judged(group, Path(folder)):
                found[verdict.run.case.id].append(verdict)
    return found


def report(cases: Sequence[Case], found: dict[str, list[Verdict]], verbose: bool) -> Report:
    """The table by kind, and the reasons of each case that does not hold."""
    table = Report(f"wild: {len(cases)} cases", ("kind", "cases hold", "controls hold"))
    kinds = sorted({case.kind for case in cases}, key=lambda kind: int(kind.split()[0][1:]))
    for kind in [*kinds, "all"]:
        of_kind = [case for case in cases if kind in (case.kind, "all")]
        new = [_holds(found[case.id]) for case in of_kind if not case.control]
        controls = [_holds(found[case.id]) for case in of_kind if case.control]
        table.row(kind, f"{sum(new)} of {len(new)}", f"{sum(controls)} of {len(controls)}")
    for case in cases:
        wrong = [verdict for verdict in found[case.id] if verdict.faults]
        if wrong:
            sign = "control " if case.control else ""
            doors = ", ".join(dict.fromkeys(verdict.run.door for verdict in wrong))
            table.broken.append(f"{sign}{case.id} [{case.code}] {case.why} ({doors})")
            shown = wrong if verbose else wrong[:1]
            table.broken[-1] += "".join(
                f"\n    {verdict.run.door}: {fault}"
                for verdict in shown
                for fault in verdict.faults
            )
    return table


def _holds(verdicts: Sequence[Verdict]) -> bool:
    return not any(verdict.faults for verdict in verdicts)


def chosen(cases: Sequence[Case], kinds: Sequence[str], ids: Sequence[str]) -> list[Case]:
    """The cases with one of these kinds (K7) and one of these ids; all where nothing is named."""
    wanted = {kind.upper() for kind in kinds}
    return [
        case
        for case in cases
        if (not wanted or case.code in wanted) and (not ids or case.id in ids)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.wild", description=__doc__)
    parser.add_argument("--kind", action="append", default=[], help="such as K7; again for more")
    parser.add_argument("--case", action="append", default=[], help="an id; again for more")
    parser.add_argument("--table", type=Path, help="another file of cases")
    parser.add_argument("-v", "--verbose", action="store_true", help="the reasons at each door")
    options = parser.parse_args(argv)
    cases = chosen(load([options.table] if options.table else TABLES), options.kind, options.case)
    if not cases:
        parser.error("no case has that id and kind")
    return report(cases, asyncio.run(run(cases)), options.verbose).finish()


if __name__ == "__main__":
    sys.exit(main())
