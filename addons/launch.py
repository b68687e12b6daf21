"""`tee-signer`, the production launcher: the command line, and what of it can be said to be wrong at once."""

import argparse
import sys
from collections.abc import Sequence

from mitmproxy import version as mitmproxy_version

from addons import production
from attest_web.settings import LaunchSettings, Settings, SettingsError, load_settings
from attest_web.version import release

DESCRIPTION = """\
Run the signing proxy. Settings come from the environment, see below; each is an option too: --set tee_model_name=x.
It behaves as `mitmdump -s addons/tee_signer.py` does, and does less besides: scripts, saved flows and a view of the
traffic are mitmdump's and mitmweb's. No config.yaml is read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxy until it is stopped; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(LaunchSettings)
    except SettingsError as error:
        return _fail(*error.problems)
    try:
        production.run(
            production.ProxyArguments(
                upstream=settings.vllm_base_url,
                listen_port=settings.listen_port,
                listen_host=options.listen_host,
                certs=tuple(options.certs),
                options=tuple(options.set),
                verbosity=options.verbosity,
            )
        )
    except production.StartError as error:
        return _fail(str(error))
    return 0


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
    how_much = parser.add_mutually_exclusive_group()
    how_much.set_defaults(verbosity="info")
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
        lines.append(f"  {field.upper():<28}{info.description}{shown}")
    return lines
