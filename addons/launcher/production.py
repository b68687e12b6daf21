"""Runs the proxy of `tee-signer`: the same chain of addons as under mitmdump, in `ProxyMaster`."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy import exceptions
from mitmproxy.options import Options

from addons.launcher.master import CachedOptions, ProxyMaster
from addons.launcher.server import MODE, CachedProxyserver
from addons.lifecycle.temporary_authority import TemporaryAuthority
from addons.lifecycle.worker_context import WorkerContext
from addons.tee_signer import TeeSigner
from attest_web.settings import SettingsError

LIBRARIES = ("tornado", "asyncio", "hpack", "quic", "uvloop")
"""Loggers of libraries that log only warnings and errors, even with `-v`."""

_SETTLED = {
    "mode": "set VLLM_BASE_URL in the environment",
    "listen_port": "set LISTEN_PORT in the environment",
}
"""Options that have to be set in another way."""


@dataclass(frozen=True)
class ProxyArguments:
    """The options that the launcher sets.

    Attributes:
        upstream: Base URL of the upstream.
        listen_port: Port that clients use; 0 for a free one.
        listen_host: Address to listen at; empty for all addresses of this machine.
        certs: Values of mitmproxy's option `certs`: `[domain=]path`.
        options: Other options, as `name=value`.
        verbosity: A log level of mitmproxy's: `error`, `info` or `debug`.
    """

    upstream: str
    listen_port: int
    listen_host: str = ""
    certs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    verbosity: str = "info"


class StartError(ValueError):
    """mitmproxy rejects an option."""


def run(
    arguments: ProxyArguments,
    worker_context: WorkerContext | None = None,
    attached: Callable[[TeeSigner], object] | None = None,
) -> None:
    """Run the proxy until it is stopped.

    Args:
        arguments: The options that the launcher sets.
        worker_context: What the worker received from its supervisor; None for a single process.
        attached: Makes an addon, whose hooks run last.

    Raises:
        StartError: An option is wrong.
        SystemExit: The proxy could not start; the log says why.
    """
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_serve(arguments, worker_context or WorkerContext(), attached))


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The factory of uvloop's event loops; None if uvloop is missing or has not the features that mitmproxy needs."""
    try:
        import uvloop  # noqa: PLC0415  # an extra
    except ImportError:
        return None

    async def nothing() -> None:
        pass

    # mitmproxy uses eager tasks. uvloop 0.23 with Python 3.13.0 to 3.13.2 cannot make them.
    loop = uvloop.new_event_loop()
    try:
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[arg-type]
        task = nothing()
        loop.run_until_complete(task)
    except TypeError:
        task.close()
        return None
    finally:
        loop.close()
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


async def _serve(
    arguments: ProxyArguments, worker_context: WorkerContext, attached: Callable[[TeeSigner], object] | None
) -> None:
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    master = _make_master(arguments, worker_context, attached)
    loop = asyncio.get_running_loop()
    for how in (signal.SIGINT, signal.SIGTERM):  # addons.lifecycle.drain replaces the handler of SIGTERM
        loop.add_signal_handler(how, master.shutdown)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    await master.run()


def _make_master(
    arguments: ProxyArguments, worker_context: WorkerContext, attached: Callable[[TeeSigner], object] | None
) -> ProxyMaster:
    for spec in arguments.options:
        name = spec.partition("=")[0]
        if name in _SETTLED:
            raise StartError(f"--set {name}: {_SETTLED[name]}")
    options: Options = CachedOptions()
    master = ProxyMaster(options, CachedProxyserver(worker_context.listener))
    try:
        options.update(termlog_verbosity=arguments.verbosity)
        options.set(*arguments.options, defer=True)
        # So a record below the level is not even made.
        logging.getLogger().setLevel(options.termlog_verbosity.upper())
        if worker_context.number:
            master.prefix_log(f"worker {worker_context.number}: ")
        authority = TemporaryAuthority.where_needed(options.confdir)
        if authority is not None:
            options.update(**authority.options())
        if arguments.certs:
            _load_certs(options, arguments.certs)
        signer = TeeSigner(worker_context)
        more = [authority] if authority is not None else []
        master.add_signer(signer, *more, *([attached(signer)] if attached is not None else []))
        if options.deferred:
            names = ", ".join(sorted(options.deferred))
            raise StartError(f"--set {names}: there is no such option here; mitmdump -s addons/tee_signer.py has all")
        options.update(
            mode=[f"{MODE}:{arguments.upstream}"],
            listen_host=arguments.listen_host,
            listen_port=arguments.listen_port,
        )
    except (exceptions.OptionsError, SettingsError) as error:
        raise StartError(str(error)) from None
    return master


def _load_certs(options: Options, certs: tuple[str, ...]) -> None:
    # Before the signing addon is added: mitmproxy rolls back a change that fails, with all options of that change, and
    # calls `configure` of every addon with options that were never set, which the signer would reject.
    try:
        options.update(certs=list(certs))
    except exceptions.OptionsError as error:
        reason = str(error).rstrip(".?")
        raise StartError(
            f"{reason}; --certs takes one PEM file with the key and the certificates (cat key.pem cert.pem)"
        ) from None
