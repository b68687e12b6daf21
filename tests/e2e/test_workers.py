"""`tee-signer --workers N`: many processes that look like one proxy, whatever becomes of one of them."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.support.processes import TOKEN, Process, Proxy, Simulator, running_simulator, start_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    events,
    json_response,
)
from tests.e2e.support.workers import WORKERS, children, is_alive, started, until
from tests.support import verification
from tests.support.limits import limit


def answer(peer: Peer) -> None:
    """JSON or a stream, as is asked for, under the id that `user` names; a stream of `held-` when it is let go."""
    with suppress(ConnectionError):  # of a worker that was killed
        while (received := peer.read_request()) is not None:
            asked = json.loads(received.body or b'{"user":"health"}')
            if asked.get("stream"):
                peer.send(SSE_HEAD + b"".join(chunk(event) for event in events(asked["user"], "a", "b")) + LAST_CHUNK)
            else:
                peer.send(json_response(json.dumps({"id": asked["user"], "choices": []}).encode()))


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with ScriptedUpstream(answer) as running:
        yield running.url


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def shared_directories(pids: Iterable[int]) -> set[Path]:
    """The directories in which processes keep what they share: those of other tests, which run beside, are none."""
    parents = [Path("/dev/shm"), Path(os.environ.get("TMPDIR", "/tmp"))]
    found = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                opened = descriptor.readlink().parents
                found |= {path for path in opened if path.parent in parents and path.name.startswith("tee-signer-")}
    return found


class Load:
    """Clients that chat without a pause, each on a connection that it keeps.

    Attributes:
        answered: What went over the wire, by the answer's id.
        failures: What went wrong.
    """

    def __init__(self, port: int, name: str, clients: int = 4) -> None:
        self.answered: dict[str, tuple[bytes, bytes]] = {}
        self.failures: list[str] = []
        self._port = port
        self._name = name
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._chat, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, count: int) -> None:
        """Wait for so many answers more."""
        with self._changed:
            goal = len(self.answered) + count
            assert self._changed.wait_for(lambda: len(self.answered) >= goal, 30)

    def _chat(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=limit(20))
        turn = 0
        while not self._over.is_set():
            turn += 1
            chat_id = f"{self._name}-{number}-{turn}"
            body = chat_body("hi", user=chat_id, stream=turn % 2 == 0)
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                response = connection.getresponse()
                got = response.read()
                if response.status != 200:
                    raise OSError(f"status {response.status}: {got!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{chat_id}: {error!r}")
                connection.close()
                continue
            with self._changed:
                self.answered[chat_id] = (body, got)
                self._changed.notify_all()
        connection.close()


def check_all(load: Load, proxy: Proxy) -> None:
    """Every answer was signed, and any worker finds the signature."""
    addresses = set()
    for number, (chat_id, (sent, got)) in enumerate(load.answered.items()):
        if number % 10 == 0:  # connections go to all workers, in turn or not
            askers = [Asker(proxy.port), Asker(proxy.side_port)]
        status, found = askers[number % 2].signature(chat_id, "ecdsa" if number % 3 else "ed25519")
        assert status == 200, chat_id
        assert found["text"] == f"{verification.sha256(sent)}:{verification.sha256(got)}"
        if number < 20:
            verification.check(found, sent, got)
        addresses.add(found["signing_address"])
    assert len(addresses) == 2  # one for each algorithm


def test_connections_are_spread_and_all_workers_sign_with_the_same_keys(upstream: str) -> None:
    with started(upstream) as proxy:
        signed_as = re.findall(r"signing as (\S+) \(ecdsa\) and (\S+) ", proxy.process.output)
        assert len(signed_as) == WORKERS
        assert len(set(signed_as)) == 1
        pids = children(proxy.process.popen.pid)
        before = {pid: open_files(pid) for pid in pids}
        clients = [RawClient(proxy.port) for _ in range(20 * WORKERS)]
        until(lambda: all(open_files(pid) > before[pid] for pid in pids))
        for client in clients:
            client.sock.close()
        for pid in [proxy.process.popen.pid, *pids]:
            for name in ("environ", "cmdline"):
                shown = Path(f"/proc/{pid}/{name}").read_bytes()
                assert not re.search(rb"[0-9A-Fa-f]{64}", shown), "that may be a key"


def test_killed_worker_under_load_is_replaced_and_every_response_is_signed(upstream: str) -> None:
    with started(upstream) as proxy:
        with Load(proxy.port, "kill") as load:
            load.go_on(50)
            victim = children(proxy.process.popen.pid)[0]
            os.kill(victim, signal.SIGKILL)
            number = proxy.process.wait_for(rf"worker (\d) \(process {victim}\) ended by SIGKILL")[1]
            proxy.process.wait_for(rf"(?s)proof pages.*ended by SIGKILL.*worker {number}: \S+ proof pages")
            load.go_on(50)
        assert len(children(proxy.process.popen.pid)) == WORKERS
        check_all(load, proxy)
        assert len(load.failures) <= 4, "one for each client at most"


def test_sighup_under_load_fails_no_request_and_applies_new_settings(upstream: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text(f"TOKEN={TOKEN}\n")
    with started(upstream, "--env-file", str(file)) as proxy, Asker(proxy.side_port) as asker:
        assert asker.get("/v1/signature/nobody", token="new-token")[0] == 401
        old = children(proxy.process.popen.pid)
        with Load(proxy.port, "hup") as load:
            load.go_on(50)
            file.write_text(f"# two of them\nTOKEN='{TOKEN},new-token'\n")
            proxy.process.popen.send_signal(signal.SIGHUP)
            proxy.process.wait_for("SIGHUP: all workers are new")
            load.go_on(50)
            until(lambda: not any(map(is_alive, old)))
            load.go_on(50)
        assert load.failures == []
        check_all(load, proxy)
        with Asker(proxy.side_port) as other:
            assert other.get("/v1/signature/nobody", token="new-token")[0] == 404
        assert len(set(re.findall(r"signing as (\S+)", proxy.process.output))) == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("MAX_CONNECTIONS=many\n", "SIGHUP: MAX_CONNECTIONS (environment) is wrong"),
        (None, "SIGHUP: --env-file .* cannot be read: No such file or directory"),
    ],
)
def test_sighup_with_a_wrong_setting_keeps_the_old_workers(
    upstream: str, tmp_path: Path, said: str | None, expected: str
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("MAX_CONNECTIONS=100\n")
    with started(upstream, "--env-file", str(file), workers=1) as proxy:
        before = children(proxy.process.popen.pid)
        if said is None:
            file.unlink()
        else:
            file.write_text(said)
        proxy.process.popen.send_signal(signal.SIGHUP)
        proxy.process.wait_for(expected.replace("(", r"\(").replace(")", r"\)"))
        proxy.process.wait_for("the workers stay as they are")
        assert children(proxy.process.popen.pid) == before
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body("hi", user="still-here")))
            assert client.read_response()[0] == 200


def test_sighup_with_a_new_worker_that_cannot_start_keeps_the_old_ones(upstream: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("DEV=1\n")
    with started(upstream, "--env-file", str(file), workers=1, DEV="") as proxy:
        before = children(proxy.process.popen.pid)
        file.write_text(f"DEV=0\nDSTACK_SIMULATOR_ENDPOINT={tmp_path}/nobody.sock\n")
        proxy.process.popen.send_signal(signal.SIGHUP)
        proxy.process.wait_for("SIGHUP: a new worker 1 does not start; the others stay as they are")
        assert "dstack's guest agent gave no answer on signing keys" in proxy.process.output
        assert children(proxy.process.popen.pid) == before
        os.kill(before[0], signal.SIGKILL)  # and whoever comes now has the old settings, too
        proxy.process.wait_for(r"(?s)ended by SIGKILL.*proof pages")
        assert len(set(re.findall(r"signing as (\S+)", proxy.process.output))) == 1


def test_sigterm_drains_all_workers_and_leaves_no_process_or_directory() -> None:
    go = threading.Event()

    def held(peer: Peer) -> None:
        while (received := peer.read_request()) is not None:
            if not received.body:
                peer.send(json_response(b"{}"))
                continue
            first, *rest = events("chatcmpl-held", "a", "b")
            peer.send(SSE_HEAD + chunk(first))
            assert go.wait(20)
            peer.send(b"".join(map(chunk, rest)) + LAST_CHUNK)

    with ScriptedUpstream(held) as upstream, started(upstream.url, DRAIN_SECONDS="20") as proxy:
        pids = children(proxy.process.popen.pid)
        [directory] = shared_directories(pids)
        clients = [RawClient(proxy.port) for _ in range(8)]
        for client in clients:
            client.send(chat_request(chat_body(stream=True)))
            client.read_until(b'"content":"a"')
        proxy.process.popen.send_signal(signal.SIGTERM)
        for number in range(1, WORKERS + 1):
            proxy.process.wait_for(rf"worker {number}: .*SIGTERM: stopping when \d requests are done")
        with pytest.raises(ConnectionRefusedError):
            RawClient(proxy.port)
        go.set()
        for client in clients:
            assert b"data: [DONE]\n\n" in client.read_until(b"0\r\n\r\n")
            client.sock.close()
        assert proxy.process.wait(20) == 0
        assert not any(map(is_alive, pids))
    assert not directory.exists()


def test_workers_of_a_killed_supervisor_exit_and_clean_up(upstream: str) -> None:
    with started(upstream, workers=2) as proxy:
        pids = children(proxy.process.popen.pid)
        [directory] = shared_directories(pids)
        proxy.process.popen.kill()
        until(lambda: not any(map(is_alive, pids)))
        proxy.process.wait_for("(?s)(the supervisor is gone: stopping.*){2}")
    assert not directory.exists()


@pytest.mark.parametrize("name", ["LISTEN_PORT", "ATTEST_PORT"])
def test_port_in_use_even_if_shareable_fails_the_start_with_one_line(upstream: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = str(taken.getsockname()[1])
        process = start_proxy(upstream, "--workers", "2", program="tee-signer", **{name: port})
        assert process.wait() == 1
    said = f"{name} {port} cannot be opened: Address already in use. Free it or set another"
    assert process.output == f"tee-signer: {said}\n"


def test_wrong_setting_with_two_workers_is_reported_once(upstream: str) -> None:
    process = start_proxy(upstream, "--workers", "2", program="tee-signer", MODEL_NAME="")
    assert process.wait() == 1
    assert process.output.count("\n") == 1
    assert "tee-signer: MODEL_NAME is missing" in process.output


def test_first_worker_that_cannot_start_ends_the_supervisor(upstream: str, tmp_path: Path) -> None:
    socket_path = str(tmp_path / "nobody.sock")
    process = start_proxy(
        upstream, "--workers", "2", program="tee-signer", DEV="0", DSTACK_SIMULATOR_ENDPOINT=socket_path
    )
    assert process.wait() == 1
    assert process.output.count("gave no answer on signing keys") == 1


def test_workers_get_the_same_keys_from_dstack(upstream: str, simulator: Simulator) -> None:
    with started(upstream, workers=2, DEV="0", **simulator.settings) as proxy:
        assert len(set(re.findall(r"signing as (\S+)", proxy.process.output))) == 1
        with Asker(proxy.side_port) as asker:
            status, _, report = asker.get("/v1/attestation/report")
            assert status == 200
            assert report["signing_address"] in proxy.process.output


@pytest.mark.parametrize("count", ["0", "-1", "many", "257"])
def test_invalid_number_of_workers_is_refused(upstream: str, count: str) -> None:
    process: Process = start_proxy(upstream, f"--workers={count}", program="tee-signer")
    assert process.wait() == 2
    assert "--workers: it must be a number from 1 to 256" in process.output


def test_replacement_worker_that_cannot_start_is_retried_until_it_can(upstream: str, tmp_path: Path) -> None:
    seed = ("--seed", "5eed" * 16)
    with ExitStack() as stack:
        with running_simulator(tmp_path, *seed) as first:
            proxy = stack.enter_context(started(upstream, workers=1, DEV="0", **first.settings))
        [worker] = children(proxy.process.popen.pid)
        os.kill(worker, signal.SIGKILL)
        proxy.process.wait_for("worker 1 cannot start; another attempt follows in 1 s")
        proxy.process.wait_for("worker 1 cannot start; another attempt follows in 2 s")
        with running_simulator(tmp_path, *seed):
            proxy.process.wait_for(r"(?s)follows in 2 s.*proof pages")
        with RawClient(proxy.port) as client:
            client.send(chat_request(chat_body("hi", user="back-again")))
            assert client.read_response()[0] == 200
        assert len(set(re.findall(r"signing as (\S+)", proxy.process.output))) == 1
