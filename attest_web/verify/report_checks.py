"""All checks of one attestation report."""

import contextlib

from attest_web.verify import binding
from attest_web.verify.dstack.event_log import RUNTIME_REGISTER
from attest_web.verify.dstack.kms_chain import check_chain
from attest_web.verify.gpu_checks import gpu_checks
from attest_web.verify.guest_checks import boot_log, guest_checks, quote_checks
from attest_web.verify.policy import Expected, Policy
from attest_web.verify.primitives.checks import Check, FailedError, NotAskedError, NotMadeError, Status, make, not_asked
from attest_web.verify.report import Report
from attest_web.verify.signed_text import shown_address


def check_report(name: str, report: Report, expected: Expected, policy: Policy) -> list[Check]:
    """Make all checks of a report.

    Args:
        name: First word of the names of the checks, usually the algorithm.
        report: The report.
        expected: What it must be about.
        policy: What the verifier requires.
    """
    return [
        *_key_checks(name, report, expected),
        *_dev_checks(name, report, policy),
        *quote_checks(name, report, policy),
        *guest_checks(name, report, policy),
        _info_check(name, report),
        _chain_check(name, report, policy),
        *gpu_checks(name, report, expected, policy),
    ]


def _key_checks(name: str, report: Report, expected: Expected) -> list[Check]:
    def key_attested() -> str:
        if not expected.signers:
            raise NotMadeError(f"no {report.algo} signature to compare it with")
        shown = shown_address(report.algo, report.address)
        if report.address not in expected.signers:
            raise FailedError(f"it attests {shown}, which has not signed this exchange")
        return f"{shown} has signed, and is attested"

    def public_key() -> str:
        return binding.check_public_key(report.algo, report.public_key, report.address)

    def address_bound() -> str:
        return binding.check_address_bound(
            report.algo, report.address, report.nonce, report.tls_key, report.quote.report_data
        )

    def nonce() -> str:
        wanted = expected.nonce if expected.nonce is not None else report.nonce
        quoted = report.quote.report_data[32:]
        if report.nonce != wanted or quoted != wanted:
            other = quoted if quoted != wanted else report.nonce
            raise FailedError(f"it was made for the nonce {other.hex()}, not for {wanted.hex()}")
        return f"made for {wanted.hex()}"

    def tls_key() -> str:
        seen = expected.tls_keys or frozenset()
        if report.tls_key is None:
            raise FailedError("the report names no TLS key; the proxy needs TLS_CERT_PATH (or --no-tls-binding)")
        if seen != {report.tls_key}:
            shown = ", ".join(sorted(key.hex() for key in seen)) or "none"
            raise FailedError(f"the report is about the TLS key {report.tls_key.hex()}, the server's is {shown}")
        return f"{address_bound()}; the server's key {report.tls_key.hex()}"

    nonce_check = make(f"{name} nonce", nonce)
    if expected.nonce is None and nonce_check.status is Status.PASSED:
        nonce_check = not_asked(nonce_check.name, "no --nonce to compare it with: this may be an old report")
    return [
        make(f"{name} key attested", key_attested)
        if expected.signers is not None
        else not_asked(f"{name} key attested", "no --signature to compare it with"),
        make(f"{name} public key", public_key),
        make(f"{name} address bound", address_bound),
        nonce_check,
        make(f"{name} TLS key", tls_key)
        if expected.tls_keys is not None
        else not_asked(f"{name} TLS key", "not asked for: no TLS connection to compare it with"),
    ]


def _dev_checks(name: str, report: Report, policy: Policy) -> list[Check]:
    # A report can leave the statement out, so no check could pass on its absence.
    if not report.dev:
        return []
    if policy.allow_dev:
        return [not_asked(f"{name} keys", "not asked for: keys of a development run are allowed")]
    detail = "the report says that they are random keys of a development run (DEV=1); --allow-dev allows them"
    return [Check(f"{name} keys", Status.FAILED, detail)]


def _info_check(name: str, report: Report) -> Check:
    def info() -> str:
        quote = report.quote
        # RTMR3 is not compared: an app may have extended it since `info` was requested.
        quoted = {"mrtd": quote.mrtd} | {f"rtmr{number}": quote.rtmrs[number] for number in range(RUNTIME_REGISTER)}
        claims = [("tcb_info", report.tcb_info, member, measured) for member, measured in quoted.items()]
        with contextlib.suppress(FailedError):  # an unreadable log has failed its own check already
            boot = boot_log(report)
            claims += [
                ("tcb_info", report.tcb_info, "compose_hash", boot.compose_hash),
                ("info", report.info, "compose_hash", boot.compose_hash),
                ("info", report.info, "app_id", boot.app_id),
                ("info", report.info, "instance_id", boot.instance_id),
            ]
        told = 0
        for where, source, member, measured in claims:
            claim = source.get(member)
            if claim is None:
                continue
            if not isinstance(claim, str) or claim.lower() != measured.hex():
                raise FailedError(f"{member} of {where} is {claim!r}, but {measured.hex()} was measured")
            told += 1
        return f"{told} registers, hashes and ids in it are those that were measured"

    return make(f"{name} info", info)


def _chain_check(name: str, report: Report, policy: Policy) -> Check:
    def chain() -> str:
        if not policy.kms_roots:
            raise NotAskedError("not asked for; --expect-kms-root compares it with a KMS's root key")
        if report.signature_chain is None:
            raise FailedError("the report has no signature_chain")
        return check_chain(
            report.algo, report.public_key, boot_log(report).app_id, report.signature_chain, policy.kms_roots
        )

    return make(f"{name} key chain", chain)
