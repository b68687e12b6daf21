"""The texts about an exchange where flows are shown: mark, comment, proof, and the notice in place of a body."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mitmproxy import http

from addons.exchange.body_digest import BodyDigest
from addons.inspection.inspected_flow import InspectedFlow, Standing
from attest_web.printable import printable
from attest_web.signatures import SIGNING_ALGOS, SignedExchange, SigningAlgo, signature_answer
from attest_web.verify.primitives.checks import Check, FailedError, NotMadeError, Status, all_hold, make
from attest_web.verify.signed_text import (
    SignatureAnswer,
    address_bytes,
    shown_address,
    signed_hashes,
    signer,
)

MARKS = {
    Standing.PENDING: ":hourglass_flowing_sand:",
    Standing.SIGNED: ":white_check_mark:",
    Standing.UNSIGNED: ":warning:",
    Standing.FAILED: ":x:",
}
NOT_DUE_MARK = ":heavy_minus_sign:"
"""Mark of an exchange that is not meant to be signed, so that it does not look like a failure."""

BANNER = "!!! INSPECT_PLAINTEXT is on: prompts and answers are kept here and shown !!!"
_SIGNS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.NOT_MADE: "–"}  # noqa: RUF001
_MAX_COMMENT = 300


def mark_of(inspected: InspectedFlow) -> str:
    """The emoji that a flow is marked with, by mitmproxy's name for it."""
    standing, _ = inspected.standing()
    return NOT_DUE_MARK if standing is Standing.UNSIGNED and not inspected.due else MARKS[standing]


def comment_of(inspected: InspectedFlow) -> str:
    """Status, model, tokens and receipt id on one line."""
    parts = [_standing(inspected), inspected.facts.model, _tokens(inspected), inspected.exchange.receipt_id]
    return printable(" · ".join(part for part in parts if part is not None))[:_MAX_COMMENT]


def notice_of(inspected: InspectedFlow, what: str, *, kept: bool) -> bytes:
    """The notice that replaces a body in a flow.

    Args:
        inspected: The exchange.
        what: The name of the message: request or response.
        kept: Whether the body itself will be there when it is complete.
    """
    digest = inspected.facts.request if what == "request" else inspected.facts.response
    why = "it is not there yet" if kept else "INSPECT_PLAINTEXT is off"
    told = {"withheld": f"the {what} body", "why": why, "state": str(inspected.standing()[0]), "bytes": digest.size}
    if digest.complete:
        told["sha256"] = digest.hex()
    return json.dumps(told).encode()


def checks_of(inspected: InspectedFlow, addresses: Mapping[SigningAlgo, str]) -> list[Check]:
    """Check the signatures of an exchange, as a client with its bytes would.

    Args:
        inspected: The exchange.
        addresses: This proxy's signing addresses.
    """
    signed = inspected.exchange.signed
    if signed is None:
        return []
    return [check for algo in SIGNING_ALGOS for check in _checks(algo, signed, inspected, addresses[algo])]


def check_lines(checks: Sequence[Check]) -> list[str]:
    """Checks as text, a line each, and their outcome."""
    lines = [f"{_SIGNS[check.status]} {check.name}: {printable(check.detail)}" for check in checks]
    failed = [check.name for check in checks if not check.holds]
    if all_hold(checks):
        passed = sum(check.status is Status.PASSED for check in checks)
        return [*lines, f"verified: all {passed} checks that could be made hold"]
    return [*lines, f"NOT verified: {', '.join(failed) or 'there is no signature'}"]


def signature_lines(signed: SignedExchange) -> list[str]:
    """The signed text, and both signatures, a line each."""
    lines = [f"text       {printable(signed['text'])}"]
    for algo in SIGNING_ALGOS:
        answer = signature_answer(signed, algo)
        lines.append(f"{algo:<10} {printable(answer['signature'])}")
        lines.append(f"           by {printable(answer['signing_address'])}")
    return lines


def proof_lines(inspected: InspectedFlow, addresses: Mapping[SigningAlgo, str]) -> list[str]:
    """The record of an exchange, without its content, a line each."""
    lines = [
        f"{name:<10} {printable(value)}"
        for name, value in (
            ("state", _standing(inspected)),
            ("model", inspected.facts.model),
            ("tokens", _tokens(inspected)),
            ("receipt", inspected.exchange.receipt_id),
            ("id", inspected.exchange.chat_id),
        )
        if value is not None
    ]
    if not inspected.exchange.is_websocket:
        lines += [
            f"request    {_described(inspected.facts.request)}",
            f"response   {_described(inspected.facts.response)}",
        ]
    if (signed := inspected.exchange.signed) is not None:
        lines += ["", *signature_lines(signed), "", *check_lines(checks_of(inspected, addresses))]
    return lines


def is_withheld(inspected: InspectedFlow, message: http.Message | None) -> bool:
    """Whether a message has a notice in place of its body."""
    return message is not None and any(message.raw_content is notice for notice in inspected.facts.notices.values())


def _standing(inspected: InspectedFlow) -> str:
    standing, reason = inspected.standing()
    return f"{standing}: {reason}" if reason else str(standing)


def _tokens(inspected: InspectedFlow) -> str | None:
    usage = inspected.exchange.usage
    if usage is None:
        return None
    given, made = ("?" if count is None else count for count in usage)
    return f"{given} → {made} tokens"


def _described(digest: BodyDigest) -> str:
    return f"{digest.size} bytes, SHA-256 {digest.hex()}" if digest.complete else f"{digest.size} bytes so far"


def _short(sha256: str) -> str:
    return f"SHA-256 {printable(sha256[:12])}…"


def _checks(algo: SigningAlgo, signed: SignedExchange, inspected: InspectedFlow, own: str) -> list[Check]:
    def answer() -> SignatureAnswer:
        return SignatureAnswer.parse(json.dumps(signature_answer(signed, algo)).encode())

    def same(what: str, digest: BodyDigest) -> str:
        of_request, of_response, _ = signed_hashes(answer().text)
        found = of_request if what == "request" else of_response
        if inspected.exchange.is_websocket:
            raise NotMadeError(f"{_short(found)} was signed; what passes a WebSocket is not measured here")
        if not digest.complete:
            raise FailedError(f"the {what} body was not seen whole here")
        if found != digest.hex():
            raise FailedError(f"{_short(found)} was signed, {_short(digest.hex())} has passed")
        return f"{_short(found)} is that of the {digest.size} bytes that have passed"

    def signature() -> str:
        return f"by {shown_address(algo, signer(answer()))}"

    def address() -> str:
        by = signer(answer())
        if by != address_bytes(algo, own):
            raise FailedError(f"{shown_address(algo, by)} has signed, which is not this proxy's {own}")
        return f"{own} is this proxy's"

    hashes = [
        make(f"{algo} request hash", lambda: same("request", inspected.facts.request)),
        make(f"{algo} response hash", lambda: same("response", inspected.facts.response)),
    ]
    return [
        *(replace(check, asked=not inspected.exchange.is_websocket) for check in hashes),
        make(f"{algo} signature", signature),
        make(f"{algo} address", address),
    ]
