"""How a supervisor fills its slots, replaces its workers and ends, with workers that the test controls."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from addons.launcher.supervisor import Slot, Supervisor, SupervisorConfig
from attest_web.process.listening import listen_reuseport
from attest_web.settings import Settings, SettingsError, load_settings
from tests.addons.launcher.fake_worker import FakeWorker, FakeWorkers, fake_workers
from tests.support.limits import limit

OTHER_KEYS = ("0xother", "key")


def settings_with(**changed: str) -> Settings:
    return load_settings(Settings, {"model_name": "m", "token": "t", "dev": "1", "drain_seconds": "0", **changed})


class WatchedSlot(Slot):
    """A slot that tells when a worker has got it."""

    filled: asyncio.Event

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "worker":
            self.__dict__.setdefault("filled", asyncio.Event()).set()


@pytest.fixture
def slots() -> Iterator[list[WatchedSlot]]:
    pairs = [(listen_reuseport("127.0.0.1", 0, 1)[0], listen_reuseport("127.0.0.1", 0, 1)[0]) for _ in range(2)]
    yield [WatchedSlot(number, pair) for number, pair in enumerate(pairs, 1)]
    for listener in (listener for pair in pairs for listener in pair):
        listener.close()


class Lines(logging.Handler):
    """The lines of the log, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.put_nowait(record.getMessage())

    async def until(self, part: str) -> None:
        """Wait for a line that has this in it."""
        while part not in await self._lines.get():
            pass


class Running:
    """A supervisor at work on fake workers.

    Attributes:
        workers: Those that it starts.
        settings: What it reads on SIGHUP, and the workers' environment is then; an error is raised.
        log: What it logs.
        status: Its exit status, when it has ended.
    """

    def __init__(
        self,
        workers: FakeWorkers,
        slots: list[WatchedSlot],
        directory: Path,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.workers = workers
        self.settings: Settings | SettingsError = settings
        self.log = Lines()
        self._slots = slots
        self._monkeypatch = monkeypatch
        config = SupervisorConfig(["--quiet"], len(slots), "127.0.0.1", "info", self._read_settings)
        self.status = asyncio.create_task(Supervisor(config, settings, slots, directory, None).run())

    def _read_settings(self) -> Settings:
        if isinstance(self.settings, SettingsError):
            raise self.settings
        self._monkeypatch.setenv("TOKEN", self.settings.token.get_secret_value())
        return self.settings

    async def serving(self, count: int) -> list[FakeWorker]:
        """The next workers, which have got their slots."""
        workers = []
        for _ in range(count):
            worker = await self.workers.next()
            filled = self._slots[worker.config["number"] - 1].filled
            filled.clear()
            worker.be_ready()
            await filled.wait()
            workers.append(worker)
        return workers


@pytest.fixture(autouse=True)
def _all_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


type Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: list[WatchedSlot]) -> Start:
    @asynccontextmanager
    async def started(count: int = 1, **changed: str) -> AsyncIterator[Running]:
        monkeypatch.setenv("TOKEN", "t")
        async with asyncio.timeout(limit(20)), fake_workers(tmp_path, monkeypatch) as workers:
            running = Running(workers, slots[:count], tmp_path, settings_with(**changed), monkeypatch)
            logging.getLogger("addons.launcher").addHandler(running.log)
            try:
                yield running
            finally:
                logging.getLogger("addons.launcher").removeHandler(running.log)
                workers.close()
                running.status.cancel()
                with suppress(asyncio.CancelledError):
                    await running.status

    return started


def send(which: signal.Signals) -> None:
    """Send the supervisor a signal: it runs in this process, and has handlers as soon as it has started a worker."""
    os.kill(os.getpid(), which)


async def stop(running: Running, *workers: FakeWorker) -> int:
    """Stop a supervisor; return its exit status."""
    send(signal.SIGTERM)
    for worker in workers:
        assert await worker.received() == "SIGTERM"
        worker.exit()
    return await running.status


def test_supervisor_kills_a_worker_with_different_signing_keys(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with start(2) as running:
            [first] = await running.serving(1)
            other = await running.workers.next()
            other.be_ready(OTHER_KEYS)
            assert await other.received() is None
            [second] = await running.serving(1)
            assert [first.config["number"], other.config["number"], second.config["number"]] == [1, 2, 2]
            assert await stop(running, first, second) == 0

    asyncio.run(main())
    assert "worker 2 has other signing keys than the others" in caplog.messages


@pytest.mark.parametrize("dev", ["1", "0"])
def test_supervisor_gives_workers_shared_random_keys_only_in_dev_mode(start: Start, dev: str) -> None:
    async def main() -> None:
        async with start(2, dev=dev) as running:
            first, second = await running.serving(2)
            assert first.config["secrets"] == second.config["secrets"]
            if dev == "1":
                ecdsa_secret, ed25519_seed = map(bytes.fromhex, first.config["secrets"])
                assert len(ecdsa_secret) == len(ed25519_seed) == 32
                assert ecdsa_secret != ed25519_seed
            else:
                assert first.config["secrets"] is None
            assert await stop(running, first, second) == 0

    asyncio.run(main())


def test_supervisor_gives_a_worker_its_number_sockets_store_and_arguments(start: Start, tmp_path: Path) -> None:
    async def main() -> None:
        async with start(2) as running:
            first, second = await running.serving(2)
            assert [first.config["workers"], second.config["workers"]] == [2, 2]
            assert [first.config["metrics_number"], second.config["metrics_number"]] == [1, 2]
            assert first.config["store"] == second.config["store"] == f"sqlite://{tmp_path}/signatures.db"
            assert (first.files, second.files) == (2, 2)
            assert first.arguments == second.arguments == ["--quiet"]
            assert await stop(running, first, second) == 0

    asyncio.run(main())


def test_supervisor_starts_no_second_worker_before_the_first_and_exits_if_it_fails(start: Start) -> None:
    async def main() -> None:
        async with start(2) as running:
            first = await running.workers.next()
            first.exit(3)
            assert await running.status == 1
            assert running.workers.all_taken()

    asyncio.run(main())


def test_supervisor_rejects_a_worker_whose_first_message_is_not_ready(start: Start) -> None:
    async def main() -> None:
        async with start() as running:
            worker = await running.workers.next()
            worker.send(b"{}")
            assert await worker.received() is None
            assert await running.status == 1

    asyncio.run(main())


@pytest.mark.parametrize("how", ["by SIGKILL", "with status 3"])
def test_supervisor_replaces_an_ended_worker_in_its_slot(
    start: Start, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> int:
        async with start(2) as running:
            first, second = await running.serving(2)
            if how == "by SIGKILL":
                os.kill(second.pid, signal.SIGKILL)
            else:
                second.exit(3)
            [new] = await running.serving(1)
            assert (new.config["number"], new.config["metrics_number"]) == (2, 2)
            assert not first.has_heard()
            assert await stop(running, first, new) == 0
            return second.pid

    pid = asyncio.run(main())
    assert f"worker 2 (process {pid}) ended {how}; another one takes its place" in caplog.messages


def test_supervisor_sighup_replaces_workers_one_by_one_before_each_old_one_retires(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with start(2) as running:
            old = await running.serving(2)
            running.settings = settings_with(token="t,t2")
            send(signal.SIGHUP)
            new = []
            for number, worker in enumerate(old, 1):
                successor = await running.workers.next()
                assert successor.config["number"] == number
                assert successor.config["metrics_number"] not in {other.config["metrics_number"] for other in old}
                assert successor.token == "t,t2"
                assert not worker.has_heard()
                successor.be_ready()
                assert await worker.received() == "retire t,t2"
                new.append(successor)
            for worker in old:
                worker.exit()
                assert await worker.received() is None
            assert await stop(running, *new) == 0
            assert running.workers.all_taken(), "one that has retired is not replaced"

    asyncio.run(main())
    assert "SIGHUP: all workers are new" in caplog.messages


def test_supervisor_new_generation_may_have_other_keys_if_all_its_workers_agree(start: Start) -> None:
    async def main() -> None:
        async with start(2) as running:
            old = await running.serving(2)
            send(signal.SIGHUP)
            first = await running.workers.next()
            first.be_ready(OTHER_KEYS)
            assert await old[0].received() == "retire t"
            second = await running.workers.next()
            second.be_ready()  # with the keys of the old ones
            assert await second.received() is None
            assert not old[1].has_heard()
            assert await stop(running, *old, first) == 0

    asyncio.run(main())


def test_supervisor_sighup_during_a_replacement_replaces_all_workers_again(start: Start) -> None:
    async def main() -> None:
        async with start() as running:
            [old] = await running.serving(1)
            send(signal.SIGHUP)
            between = await running.workers.next()
            running.settings = settings_with(token="t3")
            send(signal.SIGHUP)
            send(signal.SIGHUP)
            between.be_ready()
            assert await old.received() == "retire t"
            [new] = await running.serving(1)
            assert new.token == "t3"
            assert await between.received() == "retire t3"
            assert await stop(running, old, between, new) == 0
            assert running.workers.all_taken()

    asyncio.run(main())


def test_supervisor_sighup_with_an_invalid_setting_starts_no_worker(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with start() as running:
            [old] = await running.serving(1)
            running.settings = SettingsError(["MAX_CONNECTIONS is wrong"])
            send(signal.SIGHUP)
            await running.log.until("the workers stay as they are")
            running.settings = settings_with(token="t2")
            send(signal.SIGHUP)
            [new] = await running.serving(1)
            assert new.token == "t2"
            assert await old.received() == "retire t2"
            assert await stop(running, old, new) == 0

    asyncio.run(main())
    assert "SIGHUP: MAX_CONNECTIONS is wrong" in caplog.messages
    assert "SIGHUP: the workers stay as they are" in caplog.messages


def test_supervisor_keeps_the_old_settings_if_the_first_new_worker_fails(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with start(2) as running:
            old = await running.serving(2)
            running.settings = settings_with(token="t2")
            send(signal.SIGHUP)
            failing = await running.workers.next()
            assert failing.token == "t2"
            failing.exit(1)
            await running.log.until("a new worker 1 does not start")
            old[1].exit(3)
            [new] = await running.serving(1)
            assert (new.config["number"], new.token) == (2, "t")
            assert not old[0].has_heard()
            assert await stop(running, old[0], new) == 0

    asyncio.run(main())
    assert "SIGHUP: a new worker 1 does not start; the others stay as they are" in caplog.messages
    assert "SIGHUP: all workers are new" not in caplog.messages


def test_supervisor_sighup_keeps_the_ports_and_logs_it(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with start() as running:
            [old] = await running.serving(1)
            running.settings = settings_with(listen_port="4444")
            send(signal.SIGHUP)
            [new] = await running.serving(1)
            assert await old.received() == "retire t"
            assert await stop(running, old, new) == 0

    asyncio.run(main())
    assert "SIGHUP: LISTEN_PORT stays as it is; restart to change it" in caplog.messages
    assert not any("ATTEST_PORT" in message for message in caplog.messages)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_supervisor_stop_signal_closes_the_ports_and_reaches_every_worker(
    start: Start, slots: list[WatchedSlot], how: signal.Signals
) -> None:
    async def main() -> None:
        async with start(2) as running:
            workers = await running.serving(2)
            send(how)
            for worker in workers:
                assert await worker.received() == how.name
            assert all(listener.fileno() == -1 for slot in slots for listener in slot.listeners)
            assert not running.status.done(), "it waits for them"
            for worker in workers:
                worker.exit()
            assert await running.status == 0
            assert running.workers.all_taken()

    asyncio.run(main())


def test_supervisor_stop_signal_reaches_a_worker_that_is_not_ready(start: Start) -> None:
    async def main() -> None:
        async with start(2) as running:
            [first] = await running.serving(1)
            second = await running.workers.next()
            assert await stop(running, second, first) == 0

    asyncio.run(main())


def test_supervisor_kills_a_worker_that_outlives_the_grace_period(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("addons.launcher.supervisor.GRACE", 0.1)

    async def main() -> None:
        async with start() as running:
            [worker] = await running.serving(1)
            send(signal.SIGTERM)
            assert await worker.received() == "SIGTERM"
            assert await worker.received() is None
            assert await running.status == 0

    asyncio.run(main())
    assert "1 workers do not end: killing them" in caplog.messages
