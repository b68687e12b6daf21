"""`tee-signer`, the production launcher: parses and checks the command line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mitmproxy import version as mitmproxy_version

from attest_web.environment_file import EnvironmentFile
from attest_web.settings import CERTS_PROBLEM, LaunchSettings, Settings, SettingsError, load_settings
from attest_web.version import release

if TYPE_CHECKING:
    from addons.lifecycle.worker_context import WorkerContext
    from addons.tee_signer import TeeSigner

DESCRIPTION = """\
Run the signing proxy. Settings come from the environment, see below; each is an option too: --set tee_model_name=x.
It behaves as `mitmdump -s addons/tee_signer.py` does, and does less besides: scripts, saved flows and a view of the
traffic are mitmdump's and mitmweb's. No config.yaml is read."""

MAX_WORKERS = 256

_INDENT = 30
"""Column in which the description of a setting begins in `--help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxy until it is stopped; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    environment = EnvironmentFile(options.env_file)
    try:
        environment.read()
        if options.workers is None:
            return run_proxy(given)
        # Imported only here: a supervisor does not load mitmproxy's proxy, nor a single process the supervisor.
        from addons.launcher.supervisor import SupervisorConfig, supervise  # noqa: PLC0415

        def settings() -> Settings:
            environment.read()
            read = load_settings(Settings, _settings_among(options.set))
            if read.tls_from_dstack and (options.certs or _sets_certs(options.set)):
                raise SettingsError([CERTS_PROBLEM])
            return read

        return supervise(SupervisorConfig(given, options.workers, options.listen_host, options.verbosity, settings))
    except SettingsError as error:
        return _fail(*error.problems)


def run_proxy(
    arguments: Sequence[str],
    worker_context: "WorkerContext | None" = None,
    attached: "Callable[[TeeSigner], object] | None" = None,
) -> int:
    """Run one proxy in this process until it is stopped; return the exit status.

    Args:
        arguments: The arguments of the command line.
        worker_context: What the worker received from its supervisor; None for a single process.
        attached: Makes an addon, whose hooks run last.

    Raises:
        SettingsError: A setting is missing or wrong.
    """
    from addons.launcher import production  # noqa: PLC0415  # see main

    options = _parser().parse_args(arguments)
    settings = load_settings(LaunchSettings)
    listener = worker_context.listener if worker_context is not None else None
    proxy = production.ProxyArguments(
        upstream=settings.vllm_base_url,
        listen_port=listener.getsockname()[1] if listener is not None else settings.listen_port,
        listen_host=options.listen_host,
        certs=tuple(options.certs),
        options=tuple(options.set),
        verbosity=options.verbosity or "info",
    )
    try:
        production.run(proxy, worker_context, attached)
    except production.StartError as error:
        return _fail(str(error))
    return 0


def _settings_among(options: Sequence[str]) -> dict[str, str]:
    named = (option.partition("=") for option in options if option.startswith("tee_"))
    return {name.removeprefix("tee_"): value for name, _, value in named}


def _sets_certs(options: Sequence[str]) -> bool:
    return any(option.startswith("certs=") for option in options)


def _count(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"it must be a number from 1 to {MAX_WORKERS}")
    return int(value)


def _fail(*problems: str) -> int:
    for problem in problems:
        print(f"tee-signer: {problem}", file=sys.stderr)  # noqa: T201  # there is no log yet
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tee-signer",
        description=DESCRIPTION,
        epilog="settings:\n" + "\n".join(_described_settings()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"tee-signer {release()} (mitmproxy {mitmproxy_version.VERSION})"
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument("--listen-host", metavar="HOST", default="", help="address to listen at, by default all")
    parser.add_argument(
        "--certs",
        metavar="[DOMAIN=]PATH",
        action="append",
        default=[],
        help="speak TLS with this certificate and key, in one PEM file",
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set an option: of mitmproxy's (mitmdump --options) those of its proxy, or a setting",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_count,
        help="run N processes at the same ports, replace those that die, and on SIGHUP all, one by one, with new "
        "settings; about one for each core. By default, this process does the work alone",
    )
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        type=Path,
        help="read settings from FILE, NAME=value a line; they win over the environment's; with --workers again on "
        "SIGHUP",
    )
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument(
        "-q", "--quiet", dest="verbosity", action="store_const", const="error", help="say nothing but errors"
    )
    how_much.add_argument(
        "-v", "--verbose", dest="verbosity", action="store_const", const="debug", help="say more, of each connection"
    )
    return parser


def _described_settings() -> list[str]:
    lines = []
    for field, info in Settings.model_fields.items():
        default = "required" if info.is_required() else info.default
        shown = "" if default is None else f" [{int(default) if isinstance(default, bool) else default}]"
        name = f"  {field.upper()}"
        gap = "\n" + _INDENT * " " if len(name) >= _INDENT else (_INDENT - len(name)) * " "
        lines.append(f"{name}{gap}{info.description}{shown}")
    return lines
