import ast
from pathlib import Path

import asyncsvc

ROOT = Path(asyncsvc.__file__).parent


def imported(path: Path) -> set[str]:
    """The modules that a file imports, each with the names that it takes from them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = {name.name for n in ast.walk(tree) if isinstance(n, ast.Import) for name in n.names}
    return plain | {
        f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def test_only_the_client_imports_the_vendor() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.parent.name != "openclaw"
        and any(name.startswith("asyncsvc.providers.openclaw") for name in imported(path))
    }
    assert found == {"providers/client.py"}
