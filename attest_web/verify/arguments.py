"""The arguments of `tee-verify`."""

import argparse
import os
from collections.abc import Sequence

from attest_web.verify.demand_arguments import DEMANDS, add_demands, flag, hex_argument
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.version import release

_DESCRIPTION = """\
Check an AI answer that passed through a tee-signer: that request and answer are what was signed, that both signatures
hold, and that the keys behind them are attested by the hardware.

  tee-verify --url URL [--model M] [--message TEXT] [--stream]             send a chat and check everything
  tee-verify --proof FILE                                                  check what attest_web.client has saved
  tee-verify --request FILE --response FILE --signature FILE ...           check saved bytes
  tee-verify --report FILE ... [--nonce HEX]                               check saved reports
"""
_EPILOG = """\
Every check is a line: ✓ it holds, ✗ it does not, \N{EN DASH} it was not made. Exit status: 0 when every check that was
asked for holds, 1 when one does not or could not be made, 2 for wrong usage.

environment:
  TOKEN      the proxy's bearer token, which other users of this machine cannot see there as they can on a command line
  NO_COLOR   no colours, not even on a terminal
"""


class WrongUsageError(Exception):
    """The arguments make no sense; the message says which and why."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. Ends the program with status 2 where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="tee-verify",
        usage="tee-verify (--url URL | --proof FILE | --request FILE --response FILE --signature FILE | --report FILE)"
        " [OPTIONS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tee-verify {release()}")
    _add_online(parser)
    _add_saved(parser)
    add_demands(parser)
    parser.add_argument(
        "--explain", action="store_true", help="say of each check what it proves and what it leaves open"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for each request as a whole [60]"
    )
    options = parser.parse_args(arguments)
    if (problem := _problem(options) or _dropped_demand(parser, options)) is not None:
        parser.error(problem)
    if options.url is not None:
        options.token = options.token or os.environ.get("TOKEN", "").partition(",")[0].strip() or None
        if options.token is None:
            parser.error("--url needs the proxy's token, in TOKEN or with --token")
        if not (options.token.isascii() and options.token.isprintable() and " " not in options.token):
            parser.error("the token has characters that no bearer token has")
    return options


def _add_online(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a chat with a proxy")
    group.add_argument("--url", help="where the proxy is: http(s)://HOST:PORT")
    group.add_argument("--token", help="its bearer token; better in TOKEN")
    group.add_argument("--model", help="which model to ask [the first one that the proxy lists]")
    group.add_argument("--message", default="Say hello in one short sentence.", help="what to say to it")
    group.add_argument("--stream", action="store_true", help="have the answer streamed")
    group.add_argument("--cacert", metavar="FILE", help="certificates to trust the proxy's TLS by, in PEM")
    group.add_argument(
        "--ra-tls",
        action="store_true",
        help="judge the certificate, which dstack has made, by the attestation in it, and before anything is sent",
    )
    group.add_argument("--no-tls-binding", action="store_true", help="do not ask for the TLS key to be attested")
    group.add_argument("--save", metavar="DIR", help="keep all that was fetched there, to be checked again")


def _add_saved(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("saved bytes")
    group.add_argument("--proof", metavar="FILE", help="a proof that a verifying client has saved, all in one file")
    group.add_argument("--request", metavar="FILE", help="the request body as it was sent")
    group.add_argument("--response", metavar="FILE", help="the response body as it came")
    group.add_argument("--signature", metavar="FILE", nargs="+", action="extend", default=[], help="signature answers")
    group.add_argument("--report", metavar="FILE", nargs="+", action="extend", default=[], help="attestation reports")
    group.add_argument(
        "--tls-spki",
        metavar="HEX",
        type=hex_argument(32),
        action="append",
        default=[],
        help="SHA-256 of the SPKI that the server's certificate had",
    )


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with options that are each right."""
    saved = [options.request, options.response, *options.signature, *options.report]
    if options.url is not None or options.proof is not None:
        if options.url is not None and options.proof is not None:
            return "--url and --proof: give one of them"
        if any(name is not None for name in saved) or options.tls_spki:
            how = "--url fetches everything itself" if options.url is not None else "--proof holds everything"
            return f"{how}: leave out --request, --response, --signature, --report, --tls-spki"
        if options.save is not None and options.url is None:
            return "--save goes with --url"
        if options.ra_tls and (problem := _ra_tls_problem(options)) is not None:
            return problem
    elif not any(name is not None for name in saved):
        return "give --url, or --proof, or --request, --response and --signature, or --report"
    elif len({options.request is None, options.response is None, not options.signature}) > 1:
        return "--request, --response and --signature go together"
    elif options.save is not None or options.ra_tls:
        return f"{'--ra-tls' if options.ra_tls else '--save'} goes with --url"
    return _demand_problem(options)


def _demand_problem(options: argparse.Namespace) -> str | None:
    if options.collateral is not None and options.pccs_url is not None:
        return "--collateral and --pccs-url: give one of them"
    if options.dev_root is not None and not (options.collateral or options.pccs_url or options.proof):
        return "--dev-root needs the collateral that goes with it: --collateral or --pccs-url"
    if options.nvidia and options.gpu == GpuDemand.NONE:
        return "--nvidia has nothing to ask about with --gpu none"
    if options.nvidia_keys is not None and not options.nvidia:
        return "--nvidia-keys goes with --nvidia"
    if options.nvidia and options.gpu == GpuDemand.UNVERIFIED:
        return "--nvidia asks for the verdict that --gpu unverified does without: give one of them"
    return None


def _ra_tls_problem(options: argparse.Namespace) -> str | None:
    if options.url is None or not options.url.startswith("https:"):
        return "--ra-tls goes with --url https://…"
    if options.cacert is not None or options.no_tls_binding:
        return "--ra-tls judges the certificate itself: leave out --cacert and --no-tls-binding"
    if options.expect_compose_hash is None or (not options.expect_os_image_hash and not _all_registers(options)):
        return (
            "--ra-tls trusts the app that --expect-compose-hash names, on the image that --expect-os-image-hash (or"
            " --expect-mrtd and --expect-rtmr0 to --expect-rtmr2) names: any other could have such a certificate"
        )
    return None


def _all_registers(options: argparse.Namespace) -> bool:
    return None not in (options.expect_mrtd, options.expect_rtmr0, options.expect_rtmr1, options.expect_rtmr2)


def _dropped_demand(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str | None:
    """What is wrong with a demand that there is no report for: to leave it out would look like a pass."""
    if options.url is not None or options.proof is not None or options.report:
        return None
    for name in DEMANDS:
        if getattr(options, name) != parser.get_default(name):
            return f"{flag(name)} is about the attestation: it needs --report (or --url, or --proof)"
    return None


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("takes a number of seconds, up to 3600")
    return seconds
