"""The tests as a map: for each module of addons there is a test module at the mirrored path, and tests share no code
but what stands in modules that are no tests."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

TESTED_ELSEWHERE: Final = {
    # Declarations alone: types, tables, protocols. What goes by them is tested where it is.
    "addons/exchange/flow_facts.py": "addons/inspection/test_inspected_flow.py",
    "addons/exchange/route.py": "addons/routing/test_routes.py",
    "addons/layers/layer_config.py": "addons/layers/test_http_layer.py",
    "addons/signing/store_hook.py": "addons/layers/websocket/test_layer.py",
    "addons/upstream/policy.py": "addons/upstream/test_single.py",
    # Seen only through what it is a part of.
    "addons/bodies/sse_event.py": "addons/bodies/test_event_decoder.py",
    "addons/inspection/chain.py": "e2e/test_mitmweb.py",
    "addons/layers/http2/graceful_server.py": "addons/layers/http2/test_server.py",
    "addons/tee_signer.py": "e2e/test_start.py",
}
"""Modules without a mirror, and the test module that tests them."""


def test_every_module_of_addons_has_a_test_module_at_the_mirrored_path() -> None:
    missing = {module for module in modules() if not mirror_of(module).exists()}
    assert missing - TESTED_ELSEWHERE.keys() == set()


def test_a_module_that_is_gone_or_has_a_mirror_is_off_the_list() -> None:
    listed = TESTED_ELSEWHERE.keys()
    assert {module for module in listed if module not in modules() or mirror_of(module).exists()} == set()


def test_modules_tested_elsewhere_name_an_existing_test_module() -> None:
    assert {test for test in TESTED_ELSEWHERE.values() if not (TESTS / test).exists()} == set()


def test_no_test_module_imports_from_another() -> None:
    found = {
        f"{path.relative_to(ROOT)} -> {name}"
        for path in TESTS.rglob("*.py")
        for name in imported(path)
        if name.startswith("tests.") and name.rpartition(".")[2].startswith("test_")
    }
    assert found == set()


def modules() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in (ROOT / "addons").rglob("*.py") if path.name != "__init__.py"}


def mirror_of(module: str) -> Path:
    path = TESTS / module
    return path.with_name(f"test_{path.name}")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
