"""The commands of a fresh checkout."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.support.fake_programs import fake
from tests.e2e.support.processes import ROOT, Process, clean_env
from tests.support.limits import limit

SCRIPTS = ROOT / "scripts"
TOOLS = ["bash", "dirname", "env", "readlink"]


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with the tools that scripts need, and no Python."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (path / tool).symlink_to(found)
    return path


def which(path: Path, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / "setup", "--which"],
        env={"PATH": str(path), "HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=limit(30),
        check=False,
    )


def real_python(path: Path) -> Path:
    return fake(path, f'exec {sys.executable} "$@"')


def test_setup_picks_a_python_on_path_that_is_recent_enough(bare_path: Path, tmp_path: Path) -> None:
    fake(bare_path / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")  # a shim
    fake(bare_path / "python3", "exit 1")  # an older one
    wanted = real_python(bare_path / "python3.12")
    assert which(bare_path, tmp_path).stdout.strip() == str(wanted)


@pytest.mark.parametrize("variable", ["PYENV_ROOT", None])
def test_setup_without_a_suitable_python_on_path_picks_pyenvs(
    bare_path: Path, tmp_path: Path, variable: str | None
) -> None:
    fake(bare_path / "python3", "exit 1")
    root = tmp_path / ("elsewhere" if variable else ".pyenv")
    fake(root / "versions/3.11.7/bin/python", "exit 1")
    wanted = real_python(root / "versions/3.12.1/bin/python")
    env = {variable: str(root)} if variable else {}
    assert which(bare_path, tmp_path, **env).stdout.strip() == str(wanted)


def test_setup_without_a_python_on_path_or_in_pyenv_picks_uvs(bare_path: Path, tmp_path: Path) -> None:
    wanted = real_python(tmp_path / "uv-python")
    fake(bare_path / "uv", f'[ "$1 $2 $3" = "python find 3.12" ] && echo {wanted}')
    assert which(bare_path, tmp_path).stdout.strip() == str(wanted)


def test_setup_without_any_python_fails_with_a_one_line_error(bare_path: Path, tmp_path: Path) -> None:
    answer = which(bare_path, tmp_path)
    assert answer.returncode == 1
    assert answer.stdout == ""
    [line] = answer.stderr.splitlines()
    assert "3.12" in line
    assert "PYTHON=" in line


def test_setup_with_an_unusable_python_setting_fails_without_a_fallback(bare_path: Path, tmp_path: Path) -> None:
    real_python(bare_path / "python3.12")
    answer = which(bare_path, tmp_path, PYTHON="/nonexistent")
    assert answer.returncode == 1
    assert "/nonexistent" in answer.stderr


def test_setup_does_nothing_when_nothing_has_changed() -> None:
    stamps = [ROOT / ".venv" / ".ready", ROOT / ".venv-gpu" / ".ready"]
    if not all(stamp.exists() for stamp in stamps):
        pytest.skip("these environments were not made by scripts/setup")
    before = [stamp.stat().st_mtime_ns for stamp in stamps]
    for env in (clean_env(), clean_env(PYTHON=stamps[0].read_text().splitlines()[1])):
        answer = subprocess.run(
            [SCRIPTS / "setup"], env=env, capture_output=True, text=True, timeout=limit(30), check=True
        )
        assert answer.stdout + answer.stderr == ""
        assert [stamp.stat().st_mtime_ns for stamp in stamps] == before


class Checkout:
    """A checkout with a stand-in for Python, which makes nothing and writes down what it is asked to do."""

    def __init__(self, path: Path, bare_path: Path, suits_gpu: bool, installs_gpu: bool) -> None:
        self.path = path / "checkout"
        (self.path / "scripts").mkdir(parents=True)
        shutil.copy(SCRIPTS / "setup", self.path / "scripts")
        for name in ("pyproject.toml", "requirements.lock", "requirements-gpu.lock"):
            (self.path / name).touch()
        for tool in ("cat", "cp", "cut", "flock", "head", "mkdir", "rm", "sha256sum", "tail"):
            found = shutil.which(tool)
            assert found
            (bare_path / tool).symlink_to(found)
        self._env = {"PATH": str(bare_path), "HOME": str(path)}
        self._asked = path / "asked"
        fake(
            bare_path / "python3",
            f"""echo "$@" >> {self._asked}
case "$*" in
  *"(3, 10)"*) exit {int(not suits_gpu)} ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *requirements-gpu.lock) exit {int(not installs_gpu)} ;;
esac""",
        )

    def setup(self, **env: str) -> list[str]:
        """Run scripts/setup, which must not fail; give what it said."""
        self._asked.write_text("")
        command = [self.path / "scripts/setup"]
        answer = subprocess.run(
            command, env=self._env | env, capture_output=True, text=True, timeout=limit(30), check=True, cwd="/"
        )
        return answer.stderr.splitlines()

    @property
    def made(self) -> list[str]:
        """The environments that were made in the last run."""
        return re.findall(r"^-m venv (\S+)$", self._asked.read_text(), re.MULTILINE)


def test_setup_without_a_python_for_nvidias_library_is_ready_and_warns_once(tmp_path: Path, bare_path: Path) -> None:
    checkout = Checkout(tmp_path, bare_path, suits_gpu=False, installs_gpu=True)
    said = checkout.setup()
    assert "setup: ready" in said
    [line] = [line for line in said if "no GPU evidence" in line]
    assert re.search(r"no Python 3\.10 to 3\.12 .*install one, remove .venv-gpu and run scripts/setup again", line)
    assert not (checkout.path / ".venv-gpu/bin").exists()
    assert checkout.setup() == []
    assert checkout.made == []
    shutil.rmtree(checkout.path / ".venv-gpu")
    assert line in checkout.setup(), "it has to try again when it is told to as it said"


def test_setup_with_a_failed_nvidia_install_is_ready_and_retries_next_time(tmp_path: Path, bare_path: Path) -> None:
    checkout = Checkout(tmp_path, bare_path, suits_gpu=True, installs_gpu=False)
    for made in ([".venv", ".venv-gpu"], [".venv-gpu"]):
        [line] = [line for line in checkout.setup() if "no GPU evidence" in line]
        assert "could not be installed" in line
        assert checkout.made == made
        assert not (checkout.path / ".venv-gpu").exists()
    assert checkout.setup(SKIP_GPU="1") == []


def test_setup_remakes_an_environment_only_when_its_lock_file_changes(tmp_path: Path, bare_path: Path) -> None:
    checkout = Checkout(tmp_path, bare_path, suits_gpu=True, installs_gpu=True)
    checkout.setup()
    assert checkout.made == [".venv", ".venv-gpu"]
    (checkout.path / "requirements-gpu.lock").write_text("changed")
    checkout.setup()
    assert checkout.made == [".venv-gpu"]
    (checkout.path / "requirements.lock").write_text("changed")
    checkout.setup()
    assert checkout.made == [".venv"]
    assert checkout.setup() == []


def test_setup_with_skip_gpu_makes_no_gpu_environment(tmp_path: Path, bare_path: Path) -> None:
    checkout = Checkout(tmp_path, bare_path, suits_gpu=True, installs_gpu=True)
    checkout.setup(SKIP_GPU="1")
    assert checkout.made == [".venv"]
    assert not (checkout.path / ".venv-gpu").exists()
    checkout.setup()
    assert checkout.made == [".venv-gpu"]


LOCKED = ("mitmproxy", "coincurve", "pynacl", "pycryptodome", "cachetools", "flask", "hatchling")


@pytest.mark.parametrize(
    ("file", "locked"),
    [("requirements.lock", LOCKED), ("requirements-gpu.lock", ("nv-attestation-sdk", "nv-local-gpu-verifier"))],
)
def test_lock_file_hashes_every_package_and_names_no_host(file: str, locked: tuple[str, ...]) -> None:
    lock = (ROOT / file).read_text()
    assert not re.search(r"https?://|index-url|find-links|trusted-host", lock)
    requirements = re.findall(r"^(\S+?)==.*\\\n((?: +--hash=sha256:[0-9a-f]{64}.*\n?)+)", lock, re.MULTILINE)
    names = [name for name, _ in requirements]
    assert len(names) == len(re.findall(r"^\w", lock, re.MULTILINE))
    for name in locked:
        assert name in names


@pytest.mark.parametrize(
    "script",
    [
        "setup",
        "run",
        "test",
        "test-tools",
        "test-engine",
        "lock",
        "bench",
        "mutate",
        "soak",
        "stand_in_vllm.py",
        "dstack_simulator.py",
    ],
)
def test_every_script_has_help(script: str) -> None:
    command = [SCRIPTS / script] if not script.endswith(".py") else [sys.executable, SCRIPTS / script]
    answer = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=limit(30), check=True)
    assert "usage" in answer.stdout.lower()


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_run_script_serves_a_signed_chat_and_a_signal_stops_every_process(
    how: signal.Signals, free_ports: list[int]
) -> None:
    env = clean_env(LISTEN_PORT=str(free_ports[0]), ATTEST_PORT=str(free_ports[1]))
    process = Process(["setsid", SCRIPTS / "run"], env)
    try:
        process.wait_for(r"(?s)Ready\..*Try it:\s+curl .*\n", timeout=120)
        line = process.wait_for(r"Try it:\s+(curl .*)\n")[1]
        token = process.wait_for(r"token +(\S+)")[1]
        assert f"URL    http://localhost:{free_ports[0]}/v1" in process.output
        answer = subprocess.run(
            ["bash", "-c", f"{line} --silent --include"], capture_output=True, text=True, timeout=limit(30), check=True
        )
        assert "Say hello" in answer.stdout
        receipt = re.search(r"x-receipt-id: (\S+)", answer.stdout)
        assert receipt
        for port in free_ports:
            url = f"http://localhost:{port}/v1/signature/{receipt[1]}"
            curl = ["curl", "--silent", "--fail", url, "-H", f"Authorization: Bearer {token}"]
            signature = subprocess.run(curl, capture_output=True, text=True, timeout=limit(30), check=True).stdout
            assert '"signing_algo":"ecdsa"' in signature
    finally:
        os.killpg(process.popen.pid, how)  # as the terminal does on Ctrl-C
        process.wait()
    assert not is_there(process.popen.pid)


def test_setup_interrupted_during_an_install_exits_130_and_is_not_ready(tmp_path: Path) -> None:
    """As when Ctrl-C comes while NVIDIA's library is installed: pip ends with a status like that of any failure."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "requirements.lock", "requirements-gpu.lock", "scripts/setup"):
        shutil.copy(ROOT / name, checkout / name)
    fake(checkout / ".venv/bin/python", "exit 0")
    state = subprocess.run(
        ["bash", "-c", '(cat scripts/setup pyproject.toml requirements.lock; echo "$PWD") | sha256sum | cut -d" " -f1'],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=limit(),
        check=True,
    ).stdout
    (checkout / ".venv/.ready").write_text(f"{state}python\n")
    # A Python whose `-m venv` makes an environment whose pip hangs until it is interrupted.
    hanging = "#!/usr/bin/env bash\ntrap 'exit 1' INT\necho installing >&2\nwhile :; do sleep 0.1; done\n"
    script = f"""case "$*" in
      *"-m venv"*) mkdir -p .venv-gpu/bin; printf '%s' {shlex.quote(hanging)} > .venv-gpu/bin/python
        chmod +x .venv-gpu/bin/python ;;
    esac"""
    fake(tmp_path / "bin/python3.12", script)
    env = clean_env(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    process = Process(["setsid", checkout / "scripts/setup"], env)
    process.wait_for(r"(?s)installing NVIDIA.*installing\n")
    os.killpg(process.popen.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert not (checkout / ".venv-gpu/.ready").exists(), "or it would not be tried again"


def test_stand_in_vllm_with_an_invalid_port_fails_with_a_one_line_error() -> None:
    command = [sys.executable, str(SCRIPTS / "stand_in_vllm.py"), "--port", "99999"]
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=limit(20), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot listen at 127.0.0.1:99999" in done.stderr


def test_run_script_with_a_port_in_use_names_it_and_exits(free_ports: list[int]) -> None:
    """Whoever has the port may answer as if it were the proxy."""
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        for name, other in (("LISTEN_PORT", "ATTEST_PORT"), ("ATTEST_PORT", "LISTEN_PORT")):
            process = Process(["setsid", SCRIPTS / "run"], clean_env(**{name: str(port), other: str(free_ports[0])}))
            assert process.wait(60) == 1
            assert (
                f"run: {name} {port} cannot be opened: Address already in use. Free it or set {name} to another\n"
                in process.output
            )
            assert "Ready" not in process.output


def test_run_script_reports_an_unreachable_upstream_and_hides_the_token(free_ports: list[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    env = clean_env(LISTEN_PORT=str(free_ports[0]), ATTEST_PORT=str(free_ports[1]), MODEL_NAME="it's", TOKEN="secret")
    process = Process(["setsid", SCRIPTS / "run", "--set", "tee_dev=1"], env | {"VLLM_BASE_URL": url})
    try:
        process.wait_for(f"The model server at {url} does not answer yet")
        line = process.wait_for(r"Try it:\s+(curl .*)\n")[1]
        assert json.loads(shlex.split(line)[-1])["model"] == "it's"
        assert "secret" not in process.output, "a token that was not made up here is the operator's secret"
    finally:
        process.stop()


def test_run_script_refuses_a_port_option_and_names_the_setting() -> None:
    process = Process([SCRIPTS / "run", "-p", "9000"], clean_env())
    assert process.wait() == 2
    assert "LISTEN_PORT=9000" in process.output


def test_run_script_with_a_wrong_setting_names_it_and_leaves_no_process(free_ports: list[int]) -> None:
    env = clean_env(LISTEN_PORT=str(free_ports[0]), ATTEST_PORT="nonsense")
    process = Process(["setsid", SCRIPTS / "run"], env)
    assert process.wait(60) == 1
    assert "ATTEST_PORT (environment) is wrong" in process.output
    assert not is_there(process.popen.pid)


def test_bench_reports_figures_and_which_targets_are_met(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    little = ["--rounds", "1", "--times", "5", "--seconds", "0.5", "--idle", "20", "--streams", "20"]
    answer = subprocess.run(
        [SCRIPTS / "bench", *little, "--only", "mitmdump", "--only", "tee-signer", "--json", str(figures)],
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=limit(58),
        check=True,
    )
    rows = [line.split("|") for line in answer.stdout.splitlines()]
    assert [row[1].strip() for row in rows[2:4]] == ["mitmdump, streaming, no addon", "tee-signer"]
    assert all(float(cell) > 0 for row in rows[2:4] for cell in row[2:5])
    assert (
        "20 streams at once on one worker, without an error | 20 whole, 0 of a sample wrongly signed | met"
        in answer.stdout
    )
    assert answer.stdout.count("| met |") + answer.stdout.count("| missed |") == 5
    measured = json.loads(figures.read_text())
    assert measured["held"] == [20, 20, 0]
    assert "mitmproxy" in measured["machine"]
