"""One example of each command, shown at the end of its help.

Apart from the commands, as each begins with the way in which the program was called.
"""

from asyncsvc.cli.failures import program

EXAMPLES = {
    "serve": "serve --port 9000",
    "simulator": "simulator --port 9001",
    "demo": "demo --agent",
    "check": "check --settings new.toml",
    "route-eval": "route-eval labelled.jsonl",
    "restore": "restore tuesday.db",
    "completion": "completion bash",
    "route": 'route "Prove that there is no largest prime."',
    "submit": 'submit "Explain tea in one sentence." --model zhipu --wait',
    "chat": "chat --model zhipu",
    "tasks": "tasks --status failed --limit 50",
    "show": "show e4ae29df",
    "explain": "explain e4ae29df",
    "cancel": "cancel e4ae29df",
    "pause": "pause e4ae29df",
    "resume": "resume e4ae29df",
    "retry": "retry e4ae29df",
    "stats": "stats --json",
    "watch": "watch e4ae29df",
    "approve": "approve e4ae29df",
    "deny": 'deny e4ae29df --reason "not in this folder"',
    "fork": 'fork e4ae29df "Now write the tests." --step 3',
    "ledger": "ledger e4ae29df",
    "files": "files e4ae29df report.md --out report.md",
    "models": "models --json",
    "pause-model": "pause-model zhipu",
    "resume-model": "resume-model zhipu",
    "reload": "reload",
    "schedules": "schedules",
    "schedule": 'schedule "0 9 * * 1-5" "What is new?" --timezone Europe/Berlin',
    "unschedule": "unschedule e4ae29df",
    "tool": 'tool read_file \'{"path": "notes.txt"}\' --workspace notes',
    "exec": "exec -- python3 -c 'print(6 * 7)'",
    "mcp": "mcp --url http://127.0.0.1:8000",
    "backup": "backup tuesday.db",
    "export": "export tasks.jsonl --status completed",
    "import": "import tasks.jsonl",
}


def example(name: str) -> str | None:
    """Return the example of a command as a paragraph that is not wrapped; None: it has none."""
    line = EXAMPLES.get(name)
    return None if line is None else f"\b\nExample:\n  {program()} {line}"
