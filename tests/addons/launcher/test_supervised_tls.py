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


def test_without_tls_from_dstack_there_is_no_key_to_share() -> None:
    assert make_shared_tls_file(WITHOUT) is None


def test_where_dstack_is_not_to_make_it_the_workers_have_none(made: list[Settings]) -> None:
    assert asyncio.run(first_tls_file(WITHOUT)) is None
    assert asyncio.run(next_tls_file(MemoryFile.holding(b"pem", "test"), WITH, WITHOUT)) is None
    assert made == []


def test_the_first_workers_have_one_that_is_made_for_the_names_of_the_settings(made: list[Settings]) -> None:
    file = asyncio.run(first_tls_file(WITH))
    assert isinstance(file, MemoryFile)
    assert made == [WITH]


def test_with_the_same_names_later_workers_have_the_key_of_the_present_ones(made: list[Settings]) -> None:
    current = MemoryFile.holding(b"pem", "test")
    assert asyncio.run(next_tls_file(current, WITH, WITH)) is current
    assert made == []


@pytest.mark.parametrize(("before", "after"), [(WITH, OTHER_NAMES), (WITHOUT, WITH)])
def test_with_other_names_or_without_a_key_before_one_is_made(
    made: list[Settings], before: Settings, after: Settings
) -> None:
    current = MemoryFile.holding(b"pem", "test") if before is WITH else None
    file = asyncio.run(next_tls_file(current, before, after))
    assert file is not None
    assert file is not current
    assert made == [after]


def test_a_key_that_cannot_be_had_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Settings) -> None:
        raise SettingsError(["no key"])

    monkeypatch.setattr(supervised_tls, "make_shared_tls_file", fail)
    with pytest.raises(SettingsError, match="no key"):
        asyncio.run(first_tls_file(WITH))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_ends_the_wait_for_an_agent_that_does_not_answer(
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
