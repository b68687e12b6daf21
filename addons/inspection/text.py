"""What is written of an exchange where flows are shown: mark, comment, proof, and what stands in place of a body."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mitmproxy import http

from addons.inspection.inspected_exchange import BodyFacts, InspectedExchange, Standing
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
"""Of what is never signed, so that nobody is alarmed."""

BANNER = "!!! INSPECT_PLAINTEXT is on: prompts and answers are kept here and shown !!!"
_SIGNS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.NOT_MADE: "–"}  # noqa: RUF001
_MAX_COMMENT = 300


def mark_of(exchange: InspectedExchange) -> str:
    """The emoji that a flow is marked with, by mitmproxy's name for it."""
    standing, _ = exchange.standing()
    return NOT_DUE_MARK if standing is Standing.UNSIGNED and not exchange.due else MARKS[standing]


def comment_of(exchange: InspectedExchange) -> str:
    """Standing, model, tokens and receipt on one line."""
    parts = [_standing(exchange), exchange.model, _tokens(exchange), exchange.exchange.receipt_id]
    return printable(" · ".join(part for part in parts if part is not None))[:_MAX_COMMENT]


def notice_of(exchange: InspectedExchange, facts: BodyFacts, what: str, *, kept: bool) -> bytes:
    """What stands in a flow in place of a body.

    Args:
        exchange: The exchange.
        facts: Of this body.
        what: The name of the message: request or response.
        kept: Whether the body itself will be there when it is complete.
    """
    why = "it is not there yet" if kept else "INSPECT_PLAINTEXT is off"
    told = {"withheld": f"the {what} body", "why": why, "state": str(exchange.standing()[0]), "bytes": facts.size}
    if facts.complete:
        told["sha256"] = facts.sha256
    return json.dumps(told).encode()


def checks_of(exchange: InspectedExchange, addresses: Mapping[SigningAlgo, str]) -> list[Check]:
    """Check the signatures of an exchange, as a verifier does who has seen the bytes.

    Args:
        exchange: The exchange.
        addresses: This proxy's own.
    """
    signed = exchange.exchange.signed
    if signed is None:
        return []
    return [check for algo in SIGNING_ALGOS for check in _checks(algo, signed, exchange, addresses[algo])]


def check_lines(checks: Sequence[Check]) -> list[str]:
    """Checks for people, a line each, and what they come to."""
    lines = [f"{_SIGNS[check.status]} {check.name}: {printable(check.detail)}" for check in checks]
    failed = [check.name for check in checks if not check.holds]
    if all_hold(checks):
        passed = sum(check.status is Status.PASSED for check in checks)
        return [*lines, f"verified: all {passed} checks that could be made hold"]
    return [*lines, f"NOT verified: {', '.join(failed) or 'there is no signature'}"]


def signature_lines(signed: SignedExchange) -> list[str]:
    """What was signed, and both signatures."""
    lines = [f"text       {printable(signed['text'])}"]
    for algo in SIGNING_ALGOS:
        answer = signature_answer(signed, algo)
        lines.append(f"{algo:<10} {printable(answer['signature'])}")
        lines.append(f"           by {printable(answer['signing_address'])}")
    return lines


def proof_lines(exchange: InspectedExchange, addresses: Mapping[SigningAlgo, str]) -> list[str]:
    """All that is known of an exchange, without a word of it."""
    lines = [
        f"{name:<10} {printable(value)}"
        for name, value in (
            ("state", _standing(exchange)),
            ("model", exchange.model),
            ("tokens", _tokens(exchange)),
            ("receipt", exchange.exchange.receipt_id),
            ("id", exchange.exchange.chat_id),
        )
        if value is not None
    ]
    if not exchange.is_websocket:
        lines += [f"request    {exchange.request.describe()}", f"response   {exchange.response.describe()}"]
    if (signed := exchange.exchange.signed) is not None:
        lines += ["", *signature_lines(signed), "", *check_lines(checks_of(exchange, addresses))]
    return lines


def is_withheld(exchange: InspectedExchange, message: http.Message | None) -> bool:
    """Whether what a message holds is not its body."""
    return message is not None and any(message.raw_content is notice for notice in exchange.notices.values())


def _standing(exchange: InspectedExchange) -> str:
    standing, reason = exchange.standing()
    return f"{standing}: {reason}" if reason else str(standing)


def _tokens(exchange: InspectedExchange) -> str | None:
    usage = exchange.exchange.usage
    if usage is None:
        return None
    given, made = ("?" if count is None else count for count in usage)
    return f"{given} → {made} tokens"


def _short(sha256: str) -> str:
    return f"SHA-256 {printable(sha256[:12])}…"


def _checks(algo: SigningAlgo, signed: SignedExchange, exchange: InspectedExchange, own: str) -> list[Check]:
    def answer() -> SignatureAnswer:
        return SignatureAnswer.parse(json.dumps(signature_answer(signed, algo)).encode())

    def same(what: str, facts: BodyFacts) -> str:
        of_request, of_response, _ = signed_hashes(answer().text)
        found = of_request if what == "request" else of_response
        if exchange.is_websocket:
            raise NotMadeError(f"{_short(found)} was signed; what passes a WebSocket is not measured here")
        if not facts.complete:
            raise FailedError(f"the {what} body was not seen whole here")
        if found != facts.sha256:
            raise FailedError(f"{_short(found)} was signed, {_short(facts.sha256)} has passed")
        return f"{_short(found)} is that of the {facts.size} bytes that have passed"

    def signature() -> str:
        return f"by {shown_address(algo, signer(answer()))}"

    def address() -> str:
        by = signer(answer())
        if by != address_bytes(algo, own):
            raise FailedError(f"{shown_address(algo, by)} has signed, which is not this proxy's {own}")
        return f"{own} is this proxy's"

    hashes = [
        make(f"{algo} request hash", lambda: same("request", exchange.request)),
        make(f"{algo} response hash", lambda: same("response", exchange.response)),
    ]
    return [
        *(replace(check, asked=not exchange.is_websocket) for check in hashes),
        make(f"{algo} signature", signature),
        make(f"{algo} address", address),
    ]
