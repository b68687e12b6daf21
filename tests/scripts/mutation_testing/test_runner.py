"""Mutations tried in a small checkout."""

import subprocess
import threading
from pathlib import Path

import pytest

from scripts.mutation_testing.checkout import copy_of, python_of
from scripts.mutation_testing.mutations import Mutation
from scripts.mutation_testing.runner import Outcome, run_tests, try_mutation
from tests.support.limits import limit

CODE = "def one() -> int:\n    return 1\n\n\ndef two() -> int:\n    return 2\n"
TEST = "from code_under_test import one\n\n\ndef test_one() -> None:\n    assert one() == 1\n"
MORE = "from code_under_test import two\n\n\ndef test_two() -> None:\n    assert two() == 2\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    files = {"code_under_test.py": CODE, "test_code.py": TEST, "test_more.py": MORE, ".gitignore": "ignored\n"}
    for name, text in {**files, "ignored": "", "pyproject.toml": "[tool.pytest.ini_options]\n"}.items():
        (made / name).write_text(text)
    subprocess.run(["git", "init", "-q", made], check=True)
    return made


def mutation(old: str, new: str, test: str = "test_code.py") -> Mutation:
    return Mutation("name", "description", "code_under_test.py", old, new, (test,))


@pytest.mark.parametrize(
    ("tried", "more_tests", "outcome", "detail"),
    [
        (mutation("return 1", "return 3"), [], Outcome.CAUGHT, "test_code.py::test_one"),
        (mutation("return 2", "return 3"), [], Outcome.MISSED, ""),
        (mutation("return 2", "return 3"), ["test_more.py"], Outcome.CAUGHT, "test_more.py::test_two"),
        (mutation("return 4", "return 3"), [], Outcome.DOES_NOT_APPLY, "stands 0 times"),
        (mutation("return 1", "return 3", "test_gone.py"), [], Outcome.NOT_RUN, "pytest: "),
    ],
)
def test_mutation_outcome_follows_its_tests_and_the_checkout_is_unchanged(
    checkout: Path, tried: Mutation, more_tests: list[str], outcome: Outcome, detail: str
) -> None:
    before = {path: path.read_bytes() for path in checkout.glob("*") if path.is_file()}
    result = try_mutation(tried, checkout, more_tests, limit(60), threading.Event())
    assert result.outcome is outcome
    assert detail in result.detail
    assert {path: path.read_bytes() for path in checkout.glob("*") if path.is_file()} == before


def test_mutation_whose_tests_time_out_counts_as_not_run(checkout: Path) -> None:
    (checkout / "test_code.py").write_text("import time\n\n\ndef test_one() -> None:\n    time.sleep(1000)\n")
    result = try_mutation(mutation("return 1", "return 3"), checkout, [], 3, threading.Event())
    assert (result.outcome, result.detail) == (Outcome.NOT_RUN, "out of time")


def test_mutation_run_with_the_stop_event_set_counts_as_not_run(checkout: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    (checkout / "test_code.py").write_text("import time\n\n\ndef test_one() -> None:\n    time.sleep(1000)\n")
    assert try_mutation(mutation("return 1", "return 3"), checkout, [], limit(600), stopping).outcome is Outcome.NOT_RUN


def test_checkout_copy_has_unignored_files_and_is_removed_on_exit(checkout: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "add", "test_more.py"], cwd=checkout, check=True)
    (checkout / "test_more.py").unlink()
    for environment in (".venv", ".venv-gpu"):
        (checkout / environment).symlink_to(tmp_path)
    with copy_of(checkout) as copy:
        assert not (copy / "test_more.py").exists()
        assert (copy / ".venv-gpu").resolve() == tmp_path
        assert not (copy / ".venv").is_symlink()
        assert (copy / "code_under_test.py").read_text() == CODE
        assert not (copy / "ignored").exists()
    assert not copy.exists()


def test_checkout_copys_environment_imports_the_project_from_the_copy() -> None:
    with copy_of(Path(__file__).resolve().parents[3]) as copy:
        code = "import attest_web, cryptography, sys; print(attest_web.__file__, sys.prefix, sep='\\n')"
        command = [str(python_of(copy)), "-P", "-c", code]
        output = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, text=True, check=True).stdout
        assert output.splitlines() == [str(copy / "attest_web/__init__.py"), str(copy / ".venv")]
        program = (copy / ".venv/bin/tee-verify").read_text()
        assert str(copy / ".venv/bin/python") in program.splitlines()[0] + program.splitlines()[1]


def test_run_without_a_mutation_lists_all_failing_tests(checkout: Path) -> None:
    (checkout / "code_under_test.py").write_text(CODE.replace("return", "return 3 *"))
    with copy_of(checkout) as copy:
        run = run_tests(copy, ["test_code.py", "test_more.py"], limit(60), threading.Event())
    assert run.failed == ["test_code.py::test_one", "test_more.py::test_two"]
