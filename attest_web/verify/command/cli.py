"""`tee-verify`: checks an AI response, its signatures and the attestation of the signing keys."""

import argparse
import datetime
import os
import secrets
import shlex
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from attest_web.printable import printable
from attest_web.verify.audit import AS_OF, DEV_ROOT, Audit, check_evidence
from attest_web.verify.certificate_verifier import CertificateVerifier, any_certificate, why_refused
from attest_web.verify.collateral import (
    INTEL_PCS_URL,
    TCB_UP_TO_DATE,
    DcapVerifier,
    collateral_from_json,
    collateral_from_service,
    root_certificate,
)
from attest_web.verify.command.arguments import WrongUsageError, parse_arguments
from attest_web.verify.command.moment import shown_moment, utc_now
from attest_web.verify.command.online import Chat, EvidenceCollector
from attest_web.verify.command.output import as_json, as_text
from attest_web.verify.command.policy_arguments import collateral_arguments, policy_arguments
from attest_web.verify.evidence import Evidence, Statement, save
from attest_web.verify.nvidia.evidence import GpuDemand, GpuPayload
from attest_web.verify.nvidia.keys import NvidiaKeys
from attest_web.verify.nvidia.saved import SavedVerdicts
from attest_web.verify.nvidia.service import NvidiaAnswers, NvidiaService
from attest_web.verify.nvidia.tokens import Verdict, issuer_of
from attest_web.verify.policy import Policy
from attest_web.verify.primitives.checks import Check, FailedError, all_hold
from attest_web.verify.primitives.http_client import FetchError, HttpClient, Origin
from attest_web.verify.proof_file import SavedProof
from attest_web.verify.signed_text import SignedBodies

PROOF_FILE = (
    "nonce and TLS keys are those that the proof file names: they show that the reports were made at that time and for"
    " that connection only if you trust the maker of the file (--nonce compares them with a nonce of your own)"
)

PROOF_COLLATERAL = (
    "the quotes were checked against the collateral that the proof file has, which may be a month old: what Intel has"
    " revoked or found out since is not detected (--pccs-url or --collateral give newer)"
)

MAX_FILE = 64 * 1024 * 1024
"""Largest file that is read, in bytes."""

MAX_PROOF = 512 * 1024 * 1024
"""Largest proof that is read, in bytes: it holds all the other files, in base64."""


def main(arguments: Sequence[str] | None = None, clock: Callable[[], datetime.datetime] = utc_now) -> int:
    """Run the command; return the exit status: 0 if every requested check holds, 1 if not, 2 for wrong usage.

    Args:
        arguments: The arguments; None for those of the process.
        clock: The time now, with its zone.
    """
    try:
        try:
            return _main(arguments, clock)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, so the outcome was not read
        # The interpreter would write the rest of the buffer again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(arguments: Sequence[str] | None, clock: Callable[[], datetime.datetime]) -> int:
    options = parse_arguments(arguments, clock())
    # A terminal that cannot show a ✓ still gets the outcome.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        audit = _run(options, options.at.timestamp if options.at is not None else lambda: clock().timestamp())
    except WrongUsageError as error:
        print(f"tee-verify: {printable(str(error))} (see --help)", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    explain: bool = options.explain
    print(as_json(audit, explain=explain) if options.json else as_text(audit, colours, explain=explain))  # noqa: T201
    return 0 if audit.ok else 1


def _run(options: argparse.Namespace, clock: Callable[[], float]) -> Audit:
    proof = _proof(options.proof) if options.proof is not None else None
    verifier = _quote_verifier(options, proof, clock)
    nvidia_answers = NvidiaAnswers()
    rtmrs = (options.expect_rtmr0, options.expect_rtmr1, options.expect_rtmr2)
    policy = Policy(
        verify_quote=verifier,
        allowed_tcb=frozenset({TCB_UP_TO_DATE, *options.allow_tcb_status}),
        compose_hash=options.expect_compose_hash,
        mrtd=options.expect_mrtd,
        rtmrs={register: value for register, value in enumerate(rtmrs) if value is not None},
        os_image_hashes=frozenset(options.expect_os_image_hash),
        app_ids=frozenset(options.expect_app_id),
        key_providers=frozenset(options.expect_key_provider),
        kms_roots=frozenset(options.expect_kms_root),
        require_mr_config_id=options.require_mr_config_id,
        allow_dev=options.allow_dev or options.dev_root is not None,
        gpu=GpuDemand(options.gpu),
        gpu_policy_hashes=frozenset(options.expect_gpu_policy_hash),
        ask_nvidia=_nvidia_source(options, nvidia_answers, clock),
    )
    if proof is not None:
        if options.nonce is not None:
            proof.evidence.nonce = options.nonce
        audit = check_evidence(proof.evidence, policy)
        audit.warn(PROOF_FILE)
        if _brings_collateral(proof, options) and options.at is None:
            audit.warn(PROOF_COLLATERAL)
    elif options.url is None:
        audit = check_evidence(_saved_evidence(options), policy)
    else:
        audit = _online_audit(options, policy, verifier, nvidia_answers)
    if options.dev_root is not None:
        audit.warn(DEV_ROOT)
    if options.at is not None:
        audit.as_of = options.at
        audit.warn(AS_OF.format(shown_moment(options.at)))
    return audit


def _online_audit(
    options: argparse.Namespace, policy: Policy, verifier: DcapVerifier, nvidia_answers: NvidiaAnswers
) -> Audit:
    directory = Path(options.save) if options.save is not None else None
    if directory is not None:
        _writable(directory)
    nonce = options.nonce if options.nonce is not None else secrets.token_bytes(32)
    verify_certificate = CertificateVerifier(policy) if options.ra_tls else None
    shown: list[Check] = []  # the checks of the last certificate
    client = HttpClient(
        _origin(options.url),
        options.token,
        options.timeout,
        any_certificate() if verify_certificate is not None else _tls_context(options.cacert),
        verify_certificate=_refusing(verify_certificate, shown) if verify_certificate is not None else None,
    )
    collector = EvidenceCollector(client, nonce, tls_binding=not options.no_tls_binding)
    collector.collect(Chat(options.message, options.model, options.stream))
    audit = check_evidence(collector.evidence, policy)
    audit.checks[:0] = [*shown, *collector.checks]
    if directory is not None:
        try:
            again = save(collector.evidence, verifier.used, directory, nvidia_answers)
        except OSError as error:
            raise WrongUsageError(f"--save {directory}: {error.strerror}") from None
        if verifier.used is None:
            again += collateral_arguments(options)
        again += policy_arguments(options)
        if collector.evidence.complete:
            said = f"saved; to check it again: tee-verify {shlex.join(again)}"
        else:
            said = f"the evidence saved in {printable(str(directory))} is incomplete: see the checks, and try again"
        print(said, file=sys.stderr)  # noqa: T201
    return audit


def _saved_evidence(options: argparse.Namespace) -> Evidence:
    bodies = None
    if options.request is not None:
        bodies = SignedBodies(_read("--request", options.request), _read("--response", options.response))
    return Evidence(
        bodies=bodies,
        signatures=[Statement(_read("--signature", name)) for name in options.signature],
        reports=[Statement(_read("--report", name)) for name in options.report],
        attestation_asked=bool(options.report),
        nonce=options.nonce,
        tls_keys=frozenset(options.tls_spki) if options.tls_spki else None,
    )


def _proof(name: str) -> SavedProof:
    try:
        return SavedProof.from_json(_read("--proof", name, MAX_PROOF))
    except FailedError as error:
        raise WrongUsageError(f"--proof {name}: {error}") from None


def _quote_verifier(options: argparse.Namespace, proof: SavedProof | None, clock: Callable[[], float]) -> DcapVerifier:
    root_ca = None
    if options.dev_root is not None:
        try:
            root_ca = root_certificate(_read("--dev-root", options.dev_root))
        except ValueError as error:
            raise WrongUsageError(f"--dev-root {options.dev_root}: {error}") from None
    if options.collateral is not None:
        named, text = f"--collateral {options.collateral}", _read("--collateral", options.collateral)
    elif proof is not None and proof.collateral is not None and _brings_collateral(proof, options):
        # Intel has signed it and its dates, so its source can only choose among valid ones.
        named, text = f"--proof {options.proof}", proof.collateral.encode()
    elif options.at is not None:
        raise WrongUsageError(
            f"--proof {options.proof}: it has no collateral, and today's does not cover that time: --at needs the"
            " collateral of that time, with --collateral"
        )
    else:
        return DcapVerifier(collateral_from_service(options.pccs_url or INTEL_PCS_URL, options.timeout), root_ca, clock)
    try:
        collateral = collateral_from_json(text.decode())
    except ValueError:
        raise WrongUsageError(f"{named}: not collateral in JSON") from None
    return DcapVerifier(lambda _quote: collateral, root_ca, clock)


def _brings_collateral(proof: SavedProof, options: argparse.Namespace) -> bool:
    return proof.collateral is not None and options.collateral is None and options.pccs_url is None


def _nvidia_source(
    options: argparse.Namespace, nvidia_answers: NvidiaAnswers, clock: Callable[[], float]
) -> Callable[[GpuPayload, bytes], Verdict] | None:
    if not options.nvidia and not options.nvidia_answer:
        return None
    origin = _origin(options.nras_url)
    if not (origin.tls or origin.is_loopback):
        raise WrongUsageError("--nras-url: NVIDIA's keys come from there too, so it has to be https")
    keys = None
    if options.nvidia_keys is not None:
        try:
            keys = NvidiaKeys.parse(_read("--nvidia-keys", options.nvidia_keys))
        except FailedError as error:
            raise WrongUsageError(f"--nvidia-keys {options.nvidia_keys}: {error}") from None
    if options.nvidia or keys is None:
        return NvidiaService(origin, options.timeout, keys, clock, nvidia_answers if options.save is not None else None)
    answers = [_read("--nvidia-answer", name) for name in options.nvidia_answer]
    return SavedVerdicts(answers, keys, issuer_of(origin), clock)


def _origin(url: str) -> Origin:
    try:
        return Origin.parse(url)
    except ValueError as error:
        raise WrongUsageError(f"{url!r}: {error}") from None


def _tls_context(cacert: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cacert)
    except OSError as error:  # an SSLError is one
        raise WrongUsageError(f"--cacert {cacert}: {error.strerror or 'not certificates in PEM'}") from None


def _refusing(verify_certificate: CertificateVerifier, shown: list[Check]) -> Callable[[bytes], None]:
    def refuse(certificate: bytes) -> None:
        shown[:] = verify_certificate(certificate)
        if not all_hold(shown):
            raise FetchError(f"nothing was sent, because its certificate was rejected ({why_refused(shown)})")

    return refuse


def _read(option: str, name: str, max_bytes: int = MAX_FILE) -> bytes:
    try:
        with Path(name).open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise WrongUsageError(f"{option} {name}: {getattr(error, 'strerror', None) or 'cannot be read'}") from None
    if len(content) > max_bytes:
        raise WrongUsageError(f"{option} {name}: longer than {max_bytes} bytes")
    return content


def _writable(directory: Path) -> None:
    """Check before anything is sent whether the evidence can be saved."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUsageError(f"--save {directory}: {error.strerror}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise WrongUsageError(f"--save {directory}: cannot be written to")


if __name__ == "__main__":
    sys.exit(main())
