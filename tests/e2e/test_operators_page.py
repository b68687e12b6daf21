"""Every command in docs/operators.md that needs no Docker is run, as a reader would."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.support.doc_blocks import Page, with_replaced
from tests.e2e.support.processes import BIN, ROOT, Process, clean_env
from tests.support.deploy_metrics import alert_rules, metric_families
from tests.support.limits import limit

PAGE = Page("operators.md")


class Operator:
    """Somebody with a directory, a model server and two ports."""

    def __init__(self, directory: Path, fake_vllm: str, ports: list[int]) -> None:
        self.directory = directory
        self._ports = ports
        self._fake_vllm = fake_vllm
        written = PAGE.block("bash", "(umask 077; cat > tee-signer.env)")
        model = with_replaced(written, ("http://localhost:9000", fake_vllm), ("my-model", "demo-model"))
        self.run(with_replaced(model, ("=8000", f"={ports[0]}"), ("=8001", f"={ports[1]}")))

    def meant(self, command: str) -> str:
        """A command with this operator's paths and ports."""
        for written, meant in (
            (".venv/bin/", f"{BIN}/"),
            ("scripts/", f"{ROOT}/scripts/"),
            ("localhost:8000", f"localhost:{self._ports[0]}"),
            ("localhost:9000", self._fake_vllm.removeprefix("http://")),
            ("-p 8000", f"-p {self._ports[0]} --no-web-open-browser --set web_port=0"),
            ("addons/", f"{ROOT}/addons/"),
            ("localhost:8001", f"localhost:{self._ports[1]}"),
            ("--side-port 8001", f"--side-port {self._ports[1]}"),
            ("--duration 3", "--duration 0.5"),
        ):
            command = command.replace(written, meant)
        return command

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.meant(command)],
            env=clean_env(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=limit(40),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, command: str) -> Iterator[Process]:
        env = clean_env(ATTEST_PORT=str(self._ports[1]))
        process = Process(["bash", "-c", f"exec env {self.meant(command)}"], env, cwd=self.directory)
        try:
            process.wait_for(rf"listening at \*:{self._ports[0]}")
            process.wait_for(f"proof pages on side port {self._ports[1]}")
            yield process
        finally:
            assert process.stop(signal.SIGINT) == 0, process.output


@pytest.fixture
def operator(tmp_path: Path, fake_vllm: str, free_ports: list[int]) -> Operator:
    return Operator(tmp_path, fake_vllm, free_ports)


def test_page_commands_install_run_query_and_load_test_the_proxy(operator: Operator) -> None:
    install = PAGE.block("bash", "scripts/setup").splitlines()
    assert install[0] == "scripts/setup"  # which has been run, or there would be no tests
    assert operator.run(install[1]).startswith("tee-signer ")
    assert (operator.directory / "tee-signer.env").stat().st_mode & 0o777 == 0o600
    with operator.running(PAGE.block("bash", ".venv/bin/tee-signer --workers")):
        said = operator.run(PAGE.block("bash", "curl -s http://localhost:8001/ready"))
        assert '"status":"ready"' in said
        assert '"version"' in said
        assert 'model="demo-model"' in said
        loaded = operator.run(PAGE.block("bash", "TOKEN=my-token scripts/loadtest"))
    shown = PAGE.block("text", "milliseconds").splitlines()
    for line in (shown[0], shown[-1]):
        assert line in loaded.splitlines()
    assert '"ok": true' in loaded


def test_page_tls_commands_start_a_proxy_that_serves_https(operator: Operator) -> None:
    operator.run(PAGE.block("bash", "openssl req"))
    with operator.running(PAGE.block("bash", "TLS_CERT_PATH=")) as process:
        assert "tls.pem" not in process.output, "mitmproxy warns of certificates that are those of an authority"
        assert operator.run(PAGE.block("bash", "curl -s --cacert")).strip() == '{"status":"ok"}'


def test_page_mitmweb_command_starts_the_proxy(operator: Operator) -> None:
    with operator.running(PAGE.block("bash", "MODEL_NAME=my-model")):
        pass


def test_page_code_block_counts_are_those_that_these_tests_cover() -> None:
    assert len(PAGE.blocks("bash")) == 9
    assert len(PAGE.blocks("sh")) == 5


def test_page_documents_every_metric_and_alert_and_no_other() -> None:
    told = set(re.findall(r"`(tee_\w+|Tee\w+)`", PAGE.text))
    assert metric_families() | {rule["alert"] for rule in alert_rules()} == told


def test_page_links_resolve() -> None:
    links = PAGE.links()
    assert len(links) > 4
    assert [link for link in links if not link.exists()] == []
