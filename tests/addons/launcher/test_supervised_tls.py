"""Which TLS key a supervisor hands to its workers, and that waiting for one does not delay a stop."""

import asyncio
import os
import signal
import threading

import pytest

from addons.launcher import supervised_tls
from addons.launcher.supervised_tls import STOPPED, first_tls_file, make_shared_tls_file, next_tls_file
from attest_web.process.memory_file import MemoryFile
from attest_web.settings import Settings, SettingsError, load_settings


def settings_with(**changed: str) -> Settings:
    return load_settings(Settings, {"model_name": "m", "token": "t", **changed})


WITHOUT = settings_with()
WITH = settings_with(tls_from_dstack="1", tls_alt_names="a.example")
OTHER_NAMES = settings_with(tls_from_dstack="1", tls_alt_names="b.example")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings by which keys were made."""
    calls: list[Settings] = []

    def make(settings: Settings) -> MemoryFile:
        calls.append(settings)
        return MemoryFile.holding(b"pem", "test")

    monkeypatch.setattr(supervised_tls, "make_shared_tls_file", make)
    return calls


def test_shared_tls_file_without_tls_from_dstack_is_none() -> None:
    assert make_shared_tls_file(WITHOUT) is None


def test_tls_file_of_workers_without_tls_from_dstack_is_none(made: list[Settings]) -> None:
    assert asyncio.run(first_tls_file(WITHOUT)) is None
    assert asyncio.run(next_tls_file(MemoryFile.holding(b"pem", "test"), WITH, WITHOUT)) is None
    assert made == []


def test_first_tls_file_is_made_from_the_settings(made: list[Settings]) -> None:
    file = asyncio.run(first_tls_file(WITH))
    assert isinstance(file, MemoryFile)
    assert made == [WITH]


def test_next_tls_file_with_unchanged_names_is_the_current_one(made: list[Settings]) -> None:
    current = MemoryFile.holding(b"pem", "test")
    assert asyncio.run(next_tls_file(current, WITH, WITH)) is current
    assert made == []


@pytest.mark.parametrize(("before", "after"), [(WITH, OTHER_NAMES), (WITHOUT, WITH)])
def test_next_tls_file_with_changed_names_or_no_current_key_is_new(
    made: list[Settings], before: Settings, after: Settings
) -> None:
    current = MemoryFile.holding(b"pem", "test") if before is WITH else None
    file = asyncio.run(next_tls_file(current, before, after))
    assert file is not None
    assert file is not current
    assert made == [after]


def test_first_tls_file_failure_raises_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Settings) -> None:
        raise SettingsError(["no key"])

    monkeypatch.setattr(supervised_tls, "make_shared_tls_file", fail)
    with pytest.raises(SettingsError, match="no key"):
        asyncio.run(first_tls_file(WITH))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_first_tls_file_wait_for_dstack_is_ended_by_sigterm_or_sigint(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: signal.Signals
) -> None:
    over = threading.Event()

    def hang(_: Settings) -> None:
        os.kill(os.getpid(), signal.SIGHUP)  # which does nothing but say so
        os.kill(os.getpid(), how)
        over.wait()

    monkeypatch.setattr(supervised_tls, "make_shared_tls_file", hang)
    try:
        assert asyncio.run(first_tls_file(WITH)) is STOPPED
    finally:
        over.set()
    assert "SIGHUP: no worker runs yet; send it again later" in caplog.messages
