"""What a worker receives from its supervisor, and how it handles the supervisor's messages and end."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from addons.launcher import worker
from addons.launcher.worker import SupervisorClient, inherit, main
from addons.launcher.worker_ipc import MAX_PACKET, Ready, Retire, WorkerConfig
from addons.lifecycle.worker_context import WorkerContext
from attest_web.keys import SigningKeys
from attest_web.metrics import SharedFiles
from attest_web.process.listening import listen
from attest_web.process.memory_file import MemoryFile

type Channel = tuple[socket.socket, socket.socket]


@pytest.fixture
def channel() -> Iterator[Channel]:
    """The supervisor's end, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def config(tmp_path: Path, secrets: tuple[str, str] | None = None) -> WorkerConfig:
    return WorkerConfig(2, 3, f"sqlite://{tmp_path}/signatures.db", f"{tmp_path}/metrics", 5, secrets)


def test_worker_inherits_config_sockets_keys_and_tls_file_from_its_supervisor(
    channel: Channel, tmp_path: Path, vectors: dict[str, str]
) -> None:
    ours, theirs = channel
    secrets = vectors["ecdsa_secret"], vectors["ed25519_seed"]
    tls = MemoryFile.holding(b"key and chain", "test")
    with listen("127.0.0.1", 0) as listener, listen("127.0.0.1", 0) as side_listener:
        config(tmp_path, secrets).send(ours, [listener, side_listener], tls)
        context = inherit(theirs)
        assert (context.number, context.workers) == (2, 3)
        assert context.keys is not None
        assert context.keys.ecdsa_address == SigningKeys.from_secrets(*map(bytes.fromhex, secrets)).ecdsa_address
        assert context.store is not None
        assert str(tmp_path) in str(context.store)
        assert context.metrics == SharedFiles(tmp_path / "metrics", 5)
        assert context.listener is not None
        assert context.side_listener is not None
        with context.listener, context.side_listener:
            assert context.listener.getsockname() == listener.getsockname()
            assert context.side_listener.getsockname() == side_listener.getsockname()
        assert context.tls_file is not None
        assert context.tls_file.path.read_bytes() == b"key and chain"


def test_worker_without_secrets_inherits_no_keys_and_no_tls_file(channel: Channel, tmp_path: Path) -> None:
    ours, theirs = channel
    with listen("127.0.0.1", 0) as listener:
        config(tmp_path).send(ours, [listener, listener])
        context = inherit(theirs)
        assert (context.keys, context.tls_file) == (None, None)
        for inherited in (context.listener, context.side_listener):
            assert inherited is not None
            inherited.close()


def test_worker_start_times_out_if_the_supervisor_sends_nothing(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "START_TIMEOUT", 0.01)
    with pytest.raises(OSError, match="timed out"):
        inherit(channel[1])


def test_worker_config_and_context_repr_contain_no_secret(vectors: dict[str, str], tmp_path: Path) -> None:
    secrets = vectors["ecdsa_secret"], vectors["ed25519_seed"]
    shown = repr(config(tmp_path, secrets))
    shown += repr(WorkerContext(keys=SigningKeys.from_secrets(*map(bytes.fromhex, secrets))))
    assert not any(secret in shown for secret in secrets)


def test_worker_started_without_a_supervisor_exits_with_an_explanation(
    channel: Channel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = channel
    with socket.socket() as listener:
        socket.send_fds(ours, [b"nonsense"], [listener.fileno(), listener.fileno()])
    monkeypatch.setattr("sys.argv", ["worker", str(os.dup(theirs.fileno()))])
    assert main() == 1
    assert "a worker is started by tee-signer --workers alone" in capsys.readouterr().err


class FakeSigner:
    """Notes what the supervisor's word brings about."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.called = asyncio.Event()

    def signing_addresses(self) -> tuple[str, ...]:
        return ("0xaddress", "key")

    def replace_tokens(self, tokens: list[str]) -> None:
        self._note(list(tokens))

    def drain(self) -> SimpleNamespace:
        return SimpleNamespace(retire=lambda: self._note("retire"), terminate=lambda: self._note("terminate"))

    def _note(self, call: object) -> None:
        self.calls.append(call)
        if call in ("retire", "terminate"):
            self.called.set()


def client_of(channel: socket.socket, directory: Path) -> tuple[SupervisorClient, FakeSigner]:
    signer: Any = FakeSigner()
    return SupervisorClient(channel, signer, WorkerContext(metrics=SharedFiles(directory / "metrics", 1))), signer


def test_worker_reports_its_addresses_when_running_and_retires_with_the_new_tokens(
    channel: Channel, tmp_path: Path
) -> None:
    async def run() -> None:
        ours, theirs = channel
        client, signer = client_of(theirs, tmp_path)
        client.running()
        assert Ready.read(ours.recv(MAX_PACKET)).addresses == ("0xaddress", "key")
        ours.send(Retire(SecretStr("one,two")).packet())
        await signer.called.wait()
        assert signer.calls == [["one", "two"], "retire"]
        client.done()

    asyncio.run(run())
    assert tmp_path.exists(), "the supervisor has yet to use it"


def test_worker_terminates_and_removes_shared_files_when_its_supervisor_ends(channel: Channel, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "metrics").mkdir(parents=True)

    async def run() -> None:
        ours, theirs = channel
        client, signer = client_of(theirs, shared)
        client.running()
        ours.close()
        await signer.called.wait()
        assert signer.calls == ["terminate"]
        client.done()

    asyncio.run(run())
    assert not shared.exists()


def test_worker_terminates_if_its_supervisor_has_ended_before_it_runs(channel: Channel, tmp_path: Path) -> None:
    async def run() -> None:
        ours, theirs = channel
        ours.close()
        client, signer = client_of(theirs, tmp_path / "shared")
        client.running()
        assert signer.calls == ["terminate"]
        client.done()

    asyncio.run(run())
