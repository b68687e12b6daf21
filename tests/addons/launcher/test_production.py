"""The production launcher's master: the options that it sets, and those that it rejects."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy import ctx

from addons.launcher import production
from addons.launcher.master import ProxyMaster
from addons.launcher.production import ProxyArguments, StartError, fast_loop
from addons.lifecycle.worker_context import WorkerContext
from tests.support.certificates import key_pem, self_signed


class FakeSigner:
    """In place of the chain, which needs keys and ports."""

    name = "tee_signer"

    def __init__(self, worker_context: WorkerContext) -> None:
        self.worker_context = worker_context
        self.modes: list[str] = []

    def configure(self, updated: set[str]) -> None:
        self.modes += ctx.options.mode


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(production, "TeeSigner", FakeSigner)
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def addon(master: ProxyMaster, name: str) -> Any:
    return master.addons.get(name)  # type: ignore[no-untyped-call]


def made(
    arguments: ProxyArguments,
    check: Callable[[ProxyMaster], None] = lambda _: None,
    worker_context: WorkerContext | None = None,
    attached: Callable[[Any], object] | None = None,
) -> None:
    """Make a master, look at it, and take it apart."""

    async def main() -> None:
        handlers = list(logging.getLogger().handlers)
        try:
            check(production._make_master(arguments, worker_context or WorkerContext(), attached))
        finally:
            logging.getLogger().handlers[:] = handlers

    asyncio.run(main())


def test_production_mode_and_port_come_from_the_arguments() -> None:
    def check(master: ProxyMaster) -> None:
        assert master.options.mode == ["proxyreverse:http://vllm:9000"]
        assert (master.options.listen_host, master.options.listen_port) == ("127.0.0.1", 4000)

    made(ProxyArguments("http://vllm:9000", 4000, "127.0.0.1"), check)


def test_production_signer_is_configured_with_the_mode() -> None:
    def check(master: ProxyMaster) -> None:
        assert addon(master, "tee_signer").modes == ["proxyreverse:http://vllm:9000"]

    made(ProxyArguments("http://vllm:9000", 4000), check)


def test_production_sets_options_by_name() -> None:
    def check(master: ProxyMaster) -> None:
        assert master.options.tcp_timeout == 7
        assert master.options.keep_host_header is True

    made(ProxyArguments("http://vllm:9000", 0, options=("tcp_timeout=7", "keep_host_header=true")), check)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("mode=regular", "--set mode: set VLLM_BASE_URL in the environment"),
        ("listen_port=1", "--set listen_port: set LISTEN_PORT in the environment"),
        ("flow_detail=3", "--set flow_detail: there is no such option here"),
        ("tcp_timeout=soon", "Failed to parse option tcp_timeout"),
    ],
)
def test_production_unsupported_option_raises_an_error_that_names_it(option: str, reason: str) -> None:
    with pytest.raises(StartError, match=reason):
        made(ProxyArguments("http://vllm:9000", 0, options=(option,)))


def test_production_invalid_upstream_url_is_refused() -> None:
    with pytest.raises(StartError, match="nonsense"):
        made(ProxyArguments("nonsense://", 0))


def test_production_unusable_certificate_error_says_what_certs_takes(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))  # without its key
    with pytest.raises(StartError, match=r"--certs takes one PEM file with the key and the certificates"):
        made(ProxyArguments("http://vllm:9000", 0, certs=(str(path),)))


def test_production_accepts_a_certificate_with_its_key(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "both.pem"
    path.write_bytes(key_pem(key) + self_signed(key))

    def check(master: ProxyMaster) -> None:
        assert list(master.options.certs) == [str(path)]

    made(ProxyArguments("http://vllm:9000", 0, certs=(str(path),)), check)


def test_production_attached_addon_gets_the_signer_and_is_last() -> None:
    class Attached:
        def __init__(self, signer: object) -> None:
            self.signer = signer

    def check(master: ProxyMaster) -> None:
        last = master.addons.chain[-1]
        assert isinstance(last, Attached)
        assert last.signer is addon(master, "tee_signer")

    made(ProxyArguments("http://vllm:9000", 0), check, attached=Attached)


def test_production_worker_log_lines_begin_with_its_number() -> None:
    def check(master: ProxyMaster) -> None:
        record = logging.LogRecord("x", logging.INFO, "", 0, "said", None, None)
        assert master._log.format(record).startswith("worker 3: ")

    made(ProxyArguments("http://vllm:9000", 0), check, WorkerContext(number=3))


def test_production_unwritable_confdir_is_replaced_by_a_temporary_one_until_the_end(tmp_path: Path) -> None:
    file = tmp_path / "no-directory"
    file.write_text("")

    def check(master: ProxyMaster) -> None:
        directory = Path(master.options.confdir)
        assert directory.is_dir()
        addon(master, "temporaryauthority").done()
        assert not directory.exists()

    made(ProxyArguments("http://vllm:9000", 0, options=(f"confdir={file}/below",)), check)


def test_fast_loop_runs_eager_tasks_immediately() -> None:
    factory = fast_loop()
    if factory is None:
        pytest.skip("there is no uvloop here that can do it")

    async def main() -> list[str]:
        seen: list[str] = []

        async def task() -> None:
            seen.append("task")

        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        running = asyncio.create_task(task())
        seen.append("after")
        await running
        return seen

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == ["task", "after"]
