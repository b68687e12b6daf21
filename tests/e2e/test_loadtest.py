"""`scripts/loadtest`, before a proxy that keeps its word and before some that do not."""

import itertools
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from attest_web.keys import SigningKeys
from attest_web.signatures import sign_text
from tests.e2e.support.lying_proxy import Lie, Where, lying_proxy
from tests.e2e.support.processes import MODEL, ROOT, TOKEN, Proxy, clean_env, running_proxy
from tests.support.limits import limit

LOADTEST = ROOT / "scripts" / "loadtest"
ALGOS = ("ecdsa", "ed25519")


@pytest.fixture(scope="module")
def proxy(fake_vllm: str) -> Iterator[Proxy]:
    with running_proxy(fake_vllm, program="tee-signer") as running:
        yield running


def loadtest(port: int, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    command = [
        str(LOADTEST),
        "--url",
        f"http://127.0.0.1:{port}",
        "--concurrency",
        "2",
        "--duration",
        "0.3",
        *arguments,
    ]
    return subprocess.run(
        command, env=clean_env(TOKEN=token), capture_output=True, text=True, timeout=limit(40), check=False
    )


def figures(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_streamed_responses_are_timed_and_their_signatures_verified(proxy: Proxy) -> None:
    run = loadtest(proxy.port, "--json", "--message", "one two three four five six")
    found = figures(run)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (found["ok"], found["interrupted"], found["model"], found["errors"]) == (True, False, MODEL, {})
    assert found["true_answers"] > 0
    assert set(found["signing_addresses"]) == set(ALGOS)
    for name, times in found["times"].items():
        assert 0 <= times["p50"] <= times["p99"] <= times["max"], name
    assert 0 < found["times"]["to_first_token"]["mean"] < found["times"]["to_last_byte"]["mean"]
    tokens_each = found["tokens_per_second"] / found["answers_per_second"]
    assert tokens_each == pytest.approx(round(tokens_each))
    assert tokens_each > 1


def test_unstreamed_responses_are_verified_and_summarized_in_a_table(proxy: Proxy) -> None:
    run = loadtest(proxy.port, "--no-stream", "--side-port", str(proxy.side_port), "--model", MODEL)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "first token" not in run.stdout
    assert "time to last byte" in run.stdout
    assert run.stdout.endswith("every answer had both signatures, and they are true\n")


def flipped(where: Where, path: str, body: bytes) -> bytes:
    at = body.find(b'"created"') + 1
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :] if where == "answer" and at else body


def is_ecdsa(where: Where, path: str, body: bytes) -> bool:
    return where == "answer" and path.startswith("/v1/signature/") and b'"ecdsa"' in body


def garbled(where: Where, path: str, body: bytes) -> bytes:
    return b"\x1b[2J" if is_ecdsa(where, path, body) else body


def forged(where: Where, path: str, body: bytes) -> bytes:
    if not is_ecdsa(where, path, body):
        return body
    answer = json.loads(body)
    return json.dumps(answer | {"text": answer["text"][::-1]}).encode()


class Replaced:
    """Every second signature by another key."""

    def __init__(self) -> None:
        self._turns = itertools.count()
        self._keys = SigningKeys.random()

    def __call__(self, where: Where, path: str, body: bytes) -> bytes:
        if not is_ecdsa(where, path, body) or next(self._turns) % 2:
            return body
        answer = json.loads(body)
        signed = sign_text(self._keys, answer["text"])
        address, signature = signed["signing_address_ecdsa"], signed["signature_ecdsa"]
        return json.dumps(answer | {"signing_address": address, "signature": signature}).encode()


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (flipped, "ecdsa response hash untrue"),
        (garbled, "ecdsa signature malformed"),
        (forged, "ecdsa request hash untrue"),
        (Replaced(), "ecdsa signatures by two keys"),
    ],
    ids=["byte flipped", "signature garbled", "another text signed", "another key"],
)
def test_tampered_response_or_signature_is_reported_by_kind(proxy: Proxy, lie: Lie, kind: str) -> None:
    with lying_proxy(proxy.port) as liar:
        liar.lie = lie
        run = loadtest(liar.server_address[1], "--json")
    shows_untrue(run, kind)


def test_upstream_without_a_signing_proxy_is_reported_as_unsigned(fake_vllm: str) -> None:
    shows_untrue(loadtest(int(fake_vllm.rpartition(":")[2]), "--json"), "ecdsa signature not found")


def shows_untrue(run: subprocess.CompletedProcess[str], kind: str) -> None:
    found = figures(run)
    assert run.returncode == 1
    assert not found["ok"]
    assert list(found["errors"]) == [kind]
    assert found["untrue_answers"] == found["errors"][kind] > 0
    assert found["samples"][kind].isprintable()


def test_failed_requests_are_counted_by_status(proxy: Proxy) -> None:
    run = loadtest(proxy.port, "--model", MODEL, token="wrong")
    assert run.returncode == 1
    assert "times status 401" in run.stdout
    assert "NOTHING SHOWN" in run.stdout


def test_unreachable_proxy_gives_a_one_line_error(free_ports: list[int]) -> None:
    run = loadtest(free_ports[0])
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"loadtest: 127.0.0.1:{free_ports[0]}: cannot connect\n"


def test_ctrl_c_prints_the_figures_so_far_and_progress_stays_on_one_line(proxy: Proxy) -> None:
    terminal, its_end = pty.openpty()
    command = [str(LOADTEST), "--url", proxy.url, "--duration", "60", "--json"]
    process = subprocess.Popen(command, env=clean_env(TOKEN=TOKEN), stdout=subprocess.PIPE, stderr=its_end)
    os.close(its_end)
    try:
        shown = b""
        while shown.count(b" answers, ") < 2 or b": 0 answers" in shown[-100:]:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=limit(20))
        shown += os.read(terminal, 4096)
    finally:
        process.kill()
        os.close(terminal)
    found = json.loads(said)
    assert process.returncode == 0
    assert found["interrupted"]
    assert found["true_answers"] > 0
    assert found["seconds"] < 30
    assert b"\n" not in shown
    assert shown.count(b"\r\x1b[Kloadtest: ") > 1
    assert shown.endswith(b"\r\x1b[K")
