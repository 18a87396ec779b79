import ast
from pathlib import Path

import asyncsvc

ROOT = Path(asyncsvc.__file__).parent


def imports(text: str) -> bool:
    """Whether a module imports the package or a part of it."""
    if "openclaw" not in text:
        return False
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{name.name}" for name in node.names]
    return any(name.startswith("asyncsvc.providers.openclaw") for name in found)


def test_only_the_client_imports_the_vendor() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.parent.name != "openclaw" and imports(path.read_text(encoding="utf-8"))
    }
    assert found == {"providers/client.py"}
