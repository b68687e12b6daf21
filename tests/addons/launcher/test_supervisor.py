"""The supervisor with workers that fail. tests/e2e/test_workers.py tests it with real ones."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from addons.launcher import restarts, supervisor, worker_process, worker_starter
from addons.launcher.restarts import MAX_FIRST_ATTEMPTS
from addons.launcher.supervised_tls import STOPPED
from addons.launcher.supervisor import Slot, Supervisor, SupervisorConfig, supervise
from addons.launcher.worker_ipc import Ready
from attest_web.process.listening import listen_reuseport
from attest_web.settings import Settings, load_settings


@pytest.fixture
def settings() -> Settings:
    return load_settings(Settings, {"model_name": "m", "token": "t", "dev": "1", "drain_seconds": "0"})


@pytest.fixture
def slot() -> Iterator[Slot]:
    listeners = [listen_reuseport("127.0.0.1", 0, 1)[0] for _ in range(2)]
    yield Slot(1, (listeners[0], listeners[1]))
    for listener in listeners:
        listener.close()


def test_supervisor_names_and_kills_a_worker_that_is_not_ready_in_time(
    settings: Settings,
    slot: Slot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    program, said = tmp_path / "python", tmp_path / "pid"
    program.write_text(f'#!/bin/sh\necho "$$" > {said}\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    for module in (worker_starter, worker_process):
        monkeypatch.setattr(module, "READY_TIMEOUT", 1.0)
    config = SupervisorConfig([], 1, "127.0.0.1", "info", lambda: settings)
    assert asyncio.run(Supervisor(config, settings, [slot], tmp_path, None).run()) == 1
    pid = int(said.read_text())
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"worker 1 (process {pid}) did not begin within 1 s and is killed: look at")
    assert "guest agent" in line
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_supervisor_stopped_before_the_tls_key_is_ready_creates_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(_: Settings) -> object:
        return STOPPED

    def made(*_: object) -> None:
        raise AssertionError("there is nothing to be made yet")

    monkeypatch.setattr(supervisor, "first_tls_file", stopped)
    monkeypatch.setattr(supervisor, "listen_reuseport", made)
    monkeypatch.setattr(supervisor, "shared_directory", made)
    assert supervise(SupervisorConfig([], 1, "127.0.0.1", "info", lambda: settings)) == 0


def test_supervisor_gives_up_when_all_workers_end_soon_after_they_are_ready(
    settings: Settings,
    slot: Slot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    program, lives = tmp_path / "python", tmp_path / "lives"
    ready = Ready(("0xaddress", "key")).packet().decode()
    program.write_text(
        f"#!{sys.executable}\nimport os, socket, sys\n"
        f"open({str(lives)!r}, 'a').write('x')\n"
        "channel = socket.socket(fileno=int(sys.argv[4]))\n"
        "channel.recv(1 << 20)\n"
        f"channel.send({ready!r}.encode())\n"
        "sys.exit(7)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(restarts, "LONGEST_PAUSE", 0.01)
    config = SupervisorConfig([], 1, "127.0.0.1", "info", lambda: settings)
    assert asyncio.run(Supervisor(config, settings, [slot], tmp_path, None).run()) == 1
    assert lives.read_text() == "x" * MAX_FIRST_ATTEMPTS
    said = [record.getMessage() for record in caplog.records]
    assert sum("ended with status 7; another one takes its place" in line for line in said) == MAX_FIRST_ATTEMPTS
    assert "giving up" in said[-1]
