"""scripts/test and scripts/test-tools: what is installed, what a missing program means, and what tests leave behind."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.support.fake_programs import fake
from tests.e2e.support.processes import ROOT, clean_env
from tests.support.limits import limit
from tests.support.tools import CHROMIUM, UNAVAILABLE, Tool

SCRIPTS = ROOT / "scripts"
ALL = ("redis-server", "prometheus", "chromium")


class Machine:
    """A machine with a stand-in for apt-get, which writes down what it is asked for."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._bin.mkdir()
        self._asked = directory / "asked"
        for tool in ("bash", "env", "timeout"):
            found = shutil.which(tool)
            assert found
            (self._bin / tool).symlink_to(found)

    def has(self, program: str, script: str = "exit 0") -> None:
        fake(self._bin / program, script)

    def has_apt(self, *, uid: int = 0, downloads: bool = True, installs: bool = True) -> None:
        self.has("id", f"echo {uid}")
        self.has(
            "apt-get",
            f"""echo "$@" >> {self._asked}
case "$*" in
  *--download-only*) exit {int(not downloads)} ;;
  *"update"*) exit {int(not downloads)} ;;
  *) exit {int(not installs)} ;;
esac""",
        )

    def install(self, **env: str) -> tuple[int, list[str], str]:
        """Run scripts/test-tools; give its status, the packages that it says cannot be had, and what it says else."""
        done = subprocess.run(
            [SCRIPTS / "test-tools"],
            env={"PATH": str(self._bin)} | env,
            capture_output=True,
            text=True,
            timeout=limit(30),
            check=False,
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    @property
    def installed(self) -> list[str]:
        """The packages that apt-get was asked to install."""
        asked = self._asked.read_text().splitlines() if self._asked.exists() else []
        return [line.split()[-1] for line in asked if "install" in line and "--download-only" not in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("ci", ["", "true"])
def test_test_tools_installs_only_the_missing_programs(machine: Machine, ci: str) -> None:
    machine.has_apt()
    machine.has("promtool")
    assert machine.install(CI=ci)[:2] == (0, [])
    assert machine.installed == ["redis-server", "chromium"]


def test_test_tools_accepts_any_program_of_a_kind(machine: Machine) -> None:
    for program in ("valkey-server", "promtool", "google-chrome"):
        machine.has(program)
    assert machine.install(CI="true") == (0, [], "")


@pytest.mark.parametrize("ci", ["", "true"])
@pytest.mark.parametrize("why", ["no apt-get", "no right", "no mirror"])
def test_test_tools_names_what_cannot_be_installed_and_does_not_fail(machine: Machine, ci: str, why: str) -> None:
    if why != "no apt-get":
        machine.has_apt(uid=1000 if why == "no right" else 0, downloads=why != "no mirror")
    status, unavailable, told = machine.install(CI=ci)
    assert (status, unavailable) == (0, list(ALL))
    assert machine.installed == []
    for package in ALL:
        assert f"no {package}, and it cannot be installed from here" in told
        assert f"apt-get install {package}" in told


def test_test_tools_fails_only_in_ci_if_an_available_package_does_not_install(machine: Machine) -> None:
    machine.has_apt(installs=False)
    assert machine.install()[:2] == (0, list(ALL))
    status, unavailable, told = machine.install(CI="true")
    assert (status, unavailable) == (1, [])
    assert told.count("its installation fails") == 3


NOWHERE = Tool("no-such-package", ("no-such-program",))


def test_a_test_without_its_tool_is_skipped_or_fails_in_ci() -> None:
    with pytest.raises(pytest.skip.Exception, match="scripts/test-tools installs it"):
        NOWHERE.require({})
    with pytest.raises(pytest.fail.Exception, match="which CI must have"):
        NOWHERE.require({"CI": "true", UNAVAILABLE: "other-package"})
    with pytest.raises(
        pytest.skip.Exception, match="cannot be installed from here; as root, run: apt-get install no-such"
    ):
        NOWHERE.require({"CI": "true", UNAVAILABLE: "chromium no-such-package "})


def test_a_tool_is_taken_from_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake(tmp_path / "google-chrome", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert CHROMIUM.require({"CI": "true"}) == str(program)


@pytest.mark.parametrize(
    ("made", "left"),
    [
        ("", ""),
        ("mkdir -p tests/__pycache__ .ruff_cache && touch tests/__pycache__/a.pyc .ruff_cache/b", ""),
        ("touch prom.pid", "?? prom.pid"),
        ("mkdir -p build && touch build/ignored", "!! build/"),
        ("echo more >> known", " M known"),
    ],
    ids=["nothing", "caches", "a file", "an ignored file", "a change"],
)
def test_test_script_fails_if_the_tests_leave_changes_in_the_checkout(tmp_path: Path, made: str, left: str) -> None:
    for name in ("setup", "test-tools"):
        fake(tmp_path / "scripts" / name, "exit 0")
    shutil.copy(SCRIPTS / "test", tmp_path / "scripts" / "test")
    for tool in ("ruff", "mypy"):
        fake(tmp_path / ".venv/bin" / tool, "exit 0")
    fake(tmp_path / ".venv/bin/python", f"{made or 'true'}; exit ${{STATUS:-0}}")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in ("known", "tests/test_a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("known\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t.example", "-C", str(tmp_path)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "all"]):
        subprocess.run([*git, *command], timeout=limit(), check=True)
    done = subprocess.run([tmp_path / "scripts/test"], capture_output=True, text=True, timeout=limit(30), check=False)
    assert done.returncode == int(bool(left)), done.stderr
    assert done.stderr == (f"test: the tests have left these files in the checkout:\n{left}\n" if left else "")


@pytest.mark.parametrize("installs", [True, False])
def test_engine_environment_is_removed_if_its_install_fails(tmp_path: Path, installs: bool) -> None:
    made = tmp_path / "engine"
    pip = f"#!/usr/bin/env bash\necho \"$@\" > '{tmp_path}/asked'\nexit {int(not installs)}\n"
    python = fake(
        tmp_path / "python3.12",
        f"""case "$*" in
  *"-m venv"*) mkdir -p "$3/bin"; printf '%s' {shlex.quote(pip)} > "$3/bin/python"; chmod +x "$3/bin/python" ;;
esac""",
    )
    command: list[str | Path] = [SCRIPTS / "test-engine", "llama-cpp", made]
    env = clean_env(PYTHON=str(python))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit(30), check=False)
    assert (done.returncode == 0) == installs
    assert made.exists() == installs
    assert "llama-cpp-python[server]==" in (tmp_path / "asked").read_text()
    assert (f"TEE_SIGNER_TEST_ENGINE={made} scripts/test" in done.stdout) == installs


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [([], 2, "unknown engine: none"), (["vllm", "x"], 2, "unknown engine: vllm"), (["llama-cpp"], 2, "a directory")],
)
def test_test_engine_requires_a_known_engine_and_a_directory(arguments: list[str], status: int, told: str) -> None:
    command: list[str | Path] = [SCRIPTS / "test-engine", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit(30), check=False)
    assert done.returncode == status
    assert told in done.stderr


def test_test_engine_refuses_an_existing_directory_and_leaves_it(tmp_path: Path) -> None:
    command: list[str | Path] = [SCRIPTS / "test-engine", "transformers", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit(30), check=False)
    assert done.returncode == 1
    assert f"{tmp_path} exists already" in done.stderr
    assert tmp_path.exists()
