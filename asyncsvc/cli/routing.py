"""`route` and `route-eval`: where a prompt would go, and how often that is right.

A running service is asked first; without one the settings alone decide, without load and missing
keys, and the output says so. Nothing is stored or sent to a provider.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from asyncsvc.cli.arguments import Argument, Commands
from asyncsvc.cli.client import Unreachable, reach
from asyncsvc.cli.options import (
    HERE,
    MISUSED,
    THERE,
    Failure,
    Json,
    Prompt,
    Url,
    environment,
    print_json,
    read_text,
    settings_file,
)
from asyncsvc.cli.terminal import say
from asyncsvc.config.load import load
from asyncsvc.providers.registry import Catalogue
from asyncsvc.routing.router import CLASSES, Asked, Router

app = Commands()


@app.command(group=THERE)
def route(text: Prompt, as_json: Json = False, url: Url = None) -> int:
    """Show where a prompt would go and why; without a service, by the settings."""
    text = read_text(text)
    try:
        with reach(url) as api:
            answer = api.post("/route", {"content": text}) | {"offline": False}
    except Unreachable:
        if url is not None:
            raise
        answer = _offline(text)
    if as_json:
        print_json(answer)
        return 0
    _print_decision(answer)
    return 0


def _offline(text: str) -> dict[str, Any]:
    file = settings_file(None)
    environ = environment(file)
    settings = load(file, environ)
    router = Router(settings.models, settings.routes)
    decision = router.classify(Asked("chat", text))
    first, rest = router.pool(decision.name)
    lacks = Catalogue(settings, environ).disabled
    rows = [
        {"model": name, "eligible": name in first, "reason": lacks.get(name), "eta_s": None}
        for name in first + rest
    ]
    chosen = first[0] if first else None
    why = f"the first of the models for {decision.name} tasks" if first else "there is no model"
    return decision.as_dict() | {
        "candidates": rows,
        "chosen": chosen,
        "why": why,
        "offline": True,
    }


def _print_decision(answer: dict[str, Any]) -> None:
    if answer["offline"]:
        say("no service is running: by the settings alone, without load and missing keys")
    score = "" if answer["score"] is None else f", score {answer['score']:+.2f}"
    rule = f", by {answer['rule']}" if answer["rule"] else ""
    close = ", close to the border" if answer["ambiguous"] else ""
    say(f"class     {answer['class']}{rule}{score}{close}")
    for hit in answer["features"]:
        shown = ", ".join(hit["matched"]) or f"({hit['name']})"
        say(f"feature   {hit['class']:10} {hit['weight']:+.2f}  {shown}")
    for row in answer["candidates"]:
        mark = "can" if row["eligible"] else "no"
        eta = "" if row["eta_s"] is None else f"  done in {row['eta_s']:.1f} s"
        say(f"model     {row['model']:12} {mark:3}{eta}  {row['reason'] or ''}".rstrip())
    say(f"chosen    {answer['chosen'] or 'none'}: {answer['why']}")


@app.command("route-eval", group=HERE)
def route_eval(
    file: Annotated[Path, Argument(metavar="FILE.jsonl", help="Lines {text, class}.")],
    as_json: Json = False,
) -> int:
    """Say how often prompts of your own would be routed as they are labelled."""
    beside = settings_file(None)
    settings = load(beside, environment(beside))
    router = Router(settings.models, settings.routes)
    counts: Counter[tuple[str, str]] = Counter()
    for number, line in enumerate(_lines(file), 1):
        if line.strip() and (pair := _judge(router, line, f"{file}:{number}")) is not None:
            counts[pair] += 1
    if not counts:
        raise Failure(f"{file} holds no labelled line", MISUSED)
    if as_json:
        print_json(_figures(counts))
    else:
        _matrix(counts)
    return 0


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read: {error}", MISUSED) from None


def _judge(router: Router, line: str, where: str) -> tuple[str, str] | None:
    """(label, found) of a line; None where it has no label."""
    try:
        row = json.loads(line)
        text = row["text"]
    except (ValueError, TypeError, KeyError):
        row, text = {}, None
    if not isinstance(text, str) or not row.keys() & {"class", "reasoning"}:
        raise Failure(f'{where}: must be an object with "text" and "class" or "reasoning"', MISUSED)
    found = router.classify(Asked("chat", text)).name
    if "class" in row:
        if row["class"] not in CLASSES:
            raise Failure(f"{where}: class must be one of {', '.join(CLASSES)}", MISUSED)
        return str(row["class"]), found
    if row["reasoning"] is None:
        return None
    label = "reasoning" if row["reasoning"] else "other"
    return label, found if found == "reasoning" else "other"


def _figures(counts: Counter[tuple[str, str]]) -> dict[str, Any]:
    labels = list(dict.fromkeys(sorted(name for pair in counts for name in pair)))
    right = sum(count for (label, found), count in counts.items() if label == found)
    matrix = {one: {other: counts[one, other] for other in labels} for one in labels}
    total = counts.total()
    return {
        "total": total,
        "accuracy": round(right / total, 4),
        "matrix": matrix,
        "recall": {name: _share(row[name], sum(row.values())) for name, row in matrix.items()},
        "false_positive_rate": {
            name: _share(
                sum(matrix[other][name] for other in labels if other != name),
                sum(sum(matrix[other].values()) for other in labels if other != name),
            )
            for name in labels
        },
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _matrix(counts: Counter[tuple[str, str]]) -> None:
    figures = _figures(counts)
    labels = list(figures["matrix"])
    say("label \\ found".ljust(14) + "".join(f"{name:>11}" for name in labels) + "     recall")
    for name, row in figures["matrix"].items():
        recall = figures["recall"][name]
        shown = "–" if recall is None else f"{recall:.1%}"
        say(name.ljust(14) + "".join(f"{row[other]:>11}" for other in labels) + f"{shown:>11}")
    say(f"{figures['total']} prompts, {figures['accuracy']:.1%} right")
