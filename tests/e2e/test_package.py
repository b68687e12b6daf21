"""The sdist and the wheel build, and the wheel runs where nothing else is."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e.support.processes import MODEL, ROOT, TOKEN, Process, clean_env, running_fake_vllm
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.support.limits import limit


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=limit(240), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", where)
    return where


def test_sdist_contains_the_project_files_and_the_test_vectors(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "requirements.lock", "scripts/run"):
        assert name in names
    assert "tests/vectors.json" in names


def test_the_wheel_has_the_two_packages_and_nothing_else(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"addons", "attest_web"}
    assert "addons/tee_signer.py" in names
    assert "attest_web/py.typed" in names
    assert "attest_web/pages/static/page.html" in names


@pytest.mark.timeout(300)
def test_the_wheel_runs_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    # Only the versions of the lock file, so that this tests our package and not the newest of all others.
    lock = (ROOT / "requirements.lock").read_text()
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(re.findall(r"^(\S+==[^\\\n]+)", lock, re.MULTILINE)))
    [wheel] = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, wheel, cwd=tmp_path)
    with running_fake_vllm() as upstream:
        env = clean_env(
            MODEL_NAME=MODEL, TOKEN=TOKEN, DEV="1", ATTEST_PORT="0", LISTEN_PORT="0", VLLM_BASE_URL=upstream
        )
        process = Process([tmp_path / "venv/bin/tee-signer"], env, cwd=tmp_path)
        try:
            port = int(process.wait_for(r"listening at \*:(\d+)")[1])
            process.wait_for("proof pages on side port")
            with RawClient(port) as client, Asker(port) as asker:
                client.send(chat_request(chat_body("hi")))
                status, headers, _ = client.read_response()
                assert status == 200
                assert asker.signature(headers["x-receipt-id"])[0] == 200
                assert asker.get("/version")[2]["version"] in wheel.name
        finally:
            assert process.stop() == 0, process.output
