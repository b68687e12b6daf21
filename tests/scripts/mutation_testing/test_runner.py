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
def test_a_mutation_has_the_outcome_that_its_tests_give_it_and_the_checkout_stays_as_it_is(
    checkout: Path, tried: Mutation, more_tests: list[str], outcome: Outcome, detail: str
) -> None:
    before = {path: path.read_bytes() for path in checkout.glob("*") if path.is_file()}
    result = try_mutation(tried, checkout, more_tests, limit(60), threading.Event())
    assert result.outcome is outcome
    assert detail in result.detail
    assert {path: path.read_bytes() for path in checkout.glob("*") if path.is_file()} == before


def test_tests_that_take_too_long_are_ended_and_catch_nothing(checkout: Path) -> None:
    (checkout / "test_code.py").write_text("import time\n\n\ndef test_one() -> None:\n    time.sleep(1000)\n")
    result = try_mutation(mutation("return 1", "return 3"), checkout, [], 3, threading.Event())
    assert (result.outcome, result.detail) == (Outcome.NOT_RUN, "out of time")


def test_a_run_is_ended_when_it_is_asked_to(checkout: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    (checkout / "test_code.py").write_text("import time\n\n\ndef test_one() -> None:\n    time.sleep(1000)\n")
    assert try_mutation(mutation("return 1", "return 3"), checkout, [], limit(600), stopping).outcome is Outcome.NOT_RUN


def test_a_copy_has_what_git_does_not_ignore_and_goes_when_the_context_ends(checkout: Path, tmp_path: Path) -> None:
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


def test_programs_of_a_copys_environment_import_the_project_from_the_copy() -> None:
    with copy_of(Path(__file__).resolve().parents[3]) as copy:
        code = "import attest_web, cryptography, sys; print(attest_web.__file__, sys.prefix, sep='\\n')"
        command = [str(python_of(copy)), "-P", "-c", code]
        output = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, text=True, check=True).stdout
        assert output.splitlines() == [str(copy / "attest_web/__init__.py"), str(copy / ".venv")]
        program = (copy / ".venv/bin/tee-verify").read_text()
        assert str(copy / ".venv/bin/python") in program.splitlines()[0] + program.splitlines()[1]


def test_a_run_without_a_mutation_names_all_tests_that_fail(checkout: Path) -> None:
    (checkout / "code_under_test.py").write_text(CODE.replace("return", "return 3 *"))
    with copy_of(checkout) as copy:
        run = run_tests(copy, ["test_code.py", "test_more.py"], limit(60), threading.Event())
    assert run.failed == ["test_code.py::test_one", "test_more.py::test_two"]
