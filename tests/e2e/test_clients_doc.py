"""The examples of docs/clients.md are run, as a reader would: one after the other, in one place."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from attest_web.client import attestation_policy, verified_async_openai, verified_openai
from attest_web.gpu.evidence import find_gpu_python
from tests.e2e.support.processes import BIN, MODEL, ROOT, TOKEN, Simulator, clean_env, running_proxy
from tests.support.limits import limit

DOC = (ROOT / "docs" / "clients.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(find_gpu_python(ROOT) is None, reason="no .venv-gpu: see what scripts/setup says")
def test_client_doc_examples_run_and_print_the_expected_output(
    fake_vllm: str, simulator: Simulator, tmp_path: Path
) -> None:
    with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:

        def meant(written: str) -> str:
            for word, instead in (
                ("http://localhost:8000", proxy.url),
                ("my-token", TOKEN),
                ("stand-in", MODEL),
                ("root.pem", str(simulator.root)),
                ("collateral.json", str(simulator.collateral)),
                (".venv/bin/", f"{BIN}/"),
            ):
                assert len(word) > 3
                written = written.replace(word, instead)
            return written

        def run(*command: str) -> str:
            done = subprocess.run(
                command, env=clean_env(), cwd=tmp_path, capture_output=True, text=True, timeout=limit(60), check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        python, bash = blocks("python"), blocks("bash")
        assert (len(python), len(bash)) == (5, 1)
        said = run(sys.executable, "-c", meant("\n".join(python))).splitlines()
        assert said[0] == "Say hello"
        assert re.fullmatch(r"Say hello[0-9a-f]{64}", said[1])
        assert re.fullmatch(r"0x[0-9a-fA-F]{40}", said[2])
        assert said[3] == str([MODEL])
        assert "✓ ed25519 signature" in run("bash", "-c", meant(bash[0]))


def test_attestation_policy_table_lists_exactly_the_functions_arguments() -> None:
    _, _, rest = DOC.partition("| in `attestation_policy` |")
    table, _, _ = rest.partition("\n\n")
    names = [name for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")]
    assert sorted(names) == sorted(inspect.signature(attestation_policy).parameters)


def test_arguments_table_matches_the_clients_parameters_and_defaults() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", DOC, re.MULTILINE))
    for made in (verified_openai, verified_async_openai):
        parameters = inspect.signature(made).parameters
        assert list(rows) == [name for name in parameters if name not in ("base_url", "options")]
    parameters = inspect.signature(verified_openai).parameters
    assert rows["max_bytes"] == f"{parameters['max_bytes'].default // 2**20} MiB"
    assert float(rows["proof_timeout"]) == parameters["proof_timeout"].default
    assert rows["tls_binding"] == f"`{parameters['tls_binding'].default}`"
