"""The arguments of `tee-verify`."""

import argparse
import datetime
import os
from collections.abc import Callable, Sequence

from attest_web.verify.command.moment import parse_moment
from attest_web.verify.command.policy_arguments import POLICY_OPTIONS, add_policy_options, flag, hex_argument
from attest_web.verify.nvidia.evidence import GpuDemand
from attest_web.version import release

_DESCRIPTION = """\
Check an AI response that passed through a tee-signer: that request and response are what was signed, that both
signatures are valid, and that the signing keys are attested by the hardware.

  tee-verify --url URL [--model M] [--message TEXT] [--stream]             send a chat and check everything
  tee-verify --proof FILE                                                  check what attest_web.client has saved
  tee-verify --request FILE --response FILE --signature FILE ...           check saved bytes
  tee-verify --report FILE ... [--nonce HEX]                               check saved reports
  tee-verify --proof FILE --at 2026-01-31                                  check an old proof as of a past date
"""
_EPILOG = """\
Every check is a line: ✓ it holds, ✗ it does not, \N{EN DASH} it was not made. Exit status: 0 when every requested check
holds, 1 when one does not or could not be made, 2 for wrong usage.

environment:
  TOKEN      the proxy's bearer token; unlike a command line, other users of this machine cannot see it there
  NO_COLOR   no colours, even on a terminal
"""


class WrongUsageError(Exception):
    """The arguments are invalid; the message says which and why."""


def parse_arguments(arguments: Sequence[str] | None, now: datetime.datetime) -> argparse.Namespace:
    """Parse the command line. Exits with status 2 if it is invalid.

    Args:
        arguments: The arguments; None for those of the process.
        now: The time now, with its zone.
    """
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
    _add_saved(parser, _moment(now))
    add_policy_options(parser)
    parser.add_argument("--explain", action="store_true", help="explain what each check proves and what it leaves open")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for each request as a whole [60]"
    )
    options = parser.parse_args(arguments)
    if (problem := _problem(options) or _unused_policy_option(parser, options)) is not None:
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
    group.add_argument("--url", help="the proxy's address: http(s)://HOST:PORT")
    group.add_argument("--token", help="its bearer token; better in TOKEN")
    group.add_argument("--model", help="the model to use [the first one that the proxy lists]")
    group.add_argument("--message", default="Say hello in one short sentence.", help="the prompt")
    group.add_argument("--stream", action="store_true", help="request a streamed response")
    group.add_argument("--cacert", metavar="FILE", help="certificates to trust for the proxy's TLS, in PEM")
    group.add_argument(
        "--ra-tls",
        action="store_true",
        help="verify the certificate, which dstack has made, by the attestation in it, before anything is sent",
    )
    group.add_argument("--no-tls-binding", action="store_true", help="do not require that the TLS key is attested")
    group.add_argument("--save", metavar="DIR", help="save everything that was fetched, to check it again later")


def _add_saved(parser: argparse.ArgumentParser, moment: Callable[[str], datetime.datetime]) -> None:
    group = parser.add_argument_group("saved bytes")
    group.add_argument("--proof", metavar="FILE", help="a proof that a verifying client has saved in one file")
    group.add_argument("--request", metavar="FILE", help="the request body as it was sent")
    group.add_argument("--response", metavar="FILE", help="the response body as it was received")
    group.add_argument("--signature", metavar="FILE", nargs="+", action="extend", default=[], help="signatures")
    group.add_argument("--report", metavar="FILE", nargs="+", action="extend", default=[], help="attestation reports")
    group.add_argument(
        "--tls-spki",
        metavar="HEX",
        type=hex_argument(32),
        action="append",
        default=[],
        help="SHA-256 of the SPKI of the server's certificate",
    )
    group.add_argument(
        "--at",
        metavar="TIME",
        type=moment,
        help="check certificates, revocation lists, TCB levels and NVIDIA's verdicts as of a past time: a date, or a"
        " time with its zone (RFC 3339). It needs the collateral of that time, and does not detect what was revoked or"
        " found broken since: use it only for archives",
    )


def _problem(options: argparse.Namespace) -> str | None:
    """The conflict between options that are each valid; None without one."""
    saved = [options.request, options.response, *options.signature, *options.report]
    if options.url is not None or options.proof is not None:
        if options.url is not None and options.proof is not None:
            return "--url and --proof: give one of them"
        if any(name is not None for name in saved) or options.tls_spki:
            how = "--url fetches everything itself" if options.url is not None else "--proof holds everything"
            return f"{how}: leave out --request, --response, --signature, --report, --tls-spki"
        if options.save is not None and options.url is None:
            return "--save goes with --url"
        if options.url is not None and options.at is not None:
            return "--at is for saved evidence: a running proxy is checked as of now"
        if options.ra_tls and (problem := _ra_tls_problem(options)) is not None:
            return problem
    elif not any(name is not None for name in saved):
        return "give --url, or --proof, or --request, --response and --signature, or --report"
    elif len({options.request is None, options.response is None, not options.signature}) > 1:
        return "--request, --response and --signature go together"
    elif options.save is not None or options.ra_tls:
        return f"{'--ra-tls' if options.ra_tls else '--save'} goes with --url"
    return _policy_problem(options)


def _policy_problem(options: argparse.Namespace) -> str | None:
    if options.at is not None and (problem := _at_problem(options)) is not None:
        return problem
    if options.collateral is not None and options.pccs_url is not None:
        return "--collateral and --pccs-url: give one of them"
    if options.dev_root is not None and not (options.collateral or options.pccs_url or options.proof):
        return "--dev-root needs the collateral that goes with it: --collateral or --pccs-url"
    return _nvidia_problem(options)


def _nvidia_problem(options: argparse.Namespace) -> str | None:
    if options.nvidia and options.nvidia_answer:
        return "--nvidia and --nvidia-answer: give one of them"
    asked = "--nvidia" if options.nvidia else "--nvidia-answer" if options.nvidia_answer else None
    if options.nvidia_keys is not None and asked is None:
        return "--nvidia-keys goes with --nvidia or --nvidia-answer"
    if options.nvidia_answer and options.nvidia_keys is None:
        return "--nvidia-answer goes with --nvidia-keys: today's keys are not those of that time"
    if options.nvidia_answer and options.url is not None:
        return "--nvidia-answer is for saved evidence: --url queries the service (--nvidia)"
    if asked is not None and options.gpu == GpuDemand.NONE:
        return f"{asked} has no GPU evidence to check with --gpu none"
    if asked is not None and options.gpu == GpuDemand.UNVERIFIED:
        return f"{asked} checks the verdict that --gpu unverified skips: give one of them"
    return None


def _at_problem(options: argparse.Namespace) -> str | None:
    if options.pccs_url is not None:
        return "--at and --pccs-url: a service returns today's collateral; give that of the time with --collateral"
    if options.nvidia:
        return (
            "--at and --nvidia: the service checks as of now; give its response of that time (--nvidia-answer and"
            " --nvidia-keys, which --save keeps), or --gpu unverified, which proves nothing about GPUs"
        )
    if options.report and options.collateral is None:
        return "--at needs the collateral of that time: --collateral, which --save and saved proofs keep"
    return None


def _ra_tls_problem(options: argparse.Namespace) -> str | None:
    if options.url is None or not options.url.startswith("https:"):
        return "--ra-tls goes with --url https://…"
    if options.cacert is not None or options.no_tls_binding:
        return "--ra-tls verifies the certificate itself: leave out --cacert and --no-tls-binding"
    if options.expect_compose_hash is None or (not options.expect_os_image_hash and not _all_registers(options)):
        return (
            "--ra-tls trusts the app that --expect-compose-hash names, on the image that --expect-os-image-hash (or"
            " --expect-mrtd and --expect-rtmr0 to --expect-rtmr2) names: any other app could have such a certificate"
        )
    return None


def _all_registers(options: argparse.Namespace) -> bool:
    return None not in (options.expect_mrtd, options.expect_rtmr0, options.expect_rtmr1, options.expect_rtmr2)


def _unused_policy_option(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str | None:
    """The error of a policy option without a report to check: an ignored option would look like a passed check."""
    if options.url is not None or options.proof is not None or options.report:
        return None
    for name in POLICY_OPTIONS:
        if getattr(options, name) != parser.get_default(name):
            return f"{flag(name)} is about the attestation: it needs --report (or --url, or --proof)"
    return None


def _moment(now: datetime.datetime) -> Callable[[str], datetime.datetime]:
    def parse(text: str) -> datetime.datetime:
        try:
            return parse_moment(text, now)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None

    return parse


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("takes a number of seconds, up to 3600")
    return seconds
