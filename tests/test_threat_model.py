import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def test_threat_model_names_only_existing_tests() -> None:
    named = NAMED.findall((ROOT / "docs" / "threat-model.md").read_text())
    assert len(named) > 50
    missing = [f"{file}::{test}" for file, test in named if test not in names_in(ROOT / "tests" / file)]
    assert not missing


def test_threat_model_rows_each_name_a_test() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    attacks = [line for line in text.partition("## Authentication and access")[2].splitlines() if line.startswith("| ")]
    rows = [line for line in attacks if not line.startswith(("| attack", "| ---"))]
    assert len(rows) > 40
    assert [row for row in rows if not NAMED.search(row)] == []


def names_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
