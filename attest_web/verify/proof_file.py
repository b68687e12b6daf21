"""A proof in one file: an exchange, its signatures and the reports about their keys, to be checked again.

    {"format": "tee-signer-proof-1", "request": base64, "response": base64,
     "signatures": [base64], "reports": [base64],
     "nonce": hex or null, "tls_keys": [hex] or null, "collateral": text or null}

It has exactly these members: a member that is left out or misspelt would not be checked. The policy is not in it, as
the verifier chooses it.
"""

import base64
import json
from dataclasses import dataclass

from attest_web.attestation.report_data import NONCE_BYTES
from attest_web.verify.binding import SHA256_BYTES
from attest_web.verify.evidence import Evidence, Statement
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.untrusted_json import JsonObject, base64_bytes, hex_bytes, items, parse_object, text
from attest_web.verify.signed_text import SignedBodies

FORMAT = "tee-signer-proof-1"

_WHAT = "the proof"
_MEMBERS = frozenset(
    {"format", "request", "response", "signatures", "reports", "nonce", "tls_keys", "collateral"},
)


@dataclass(frozen=True)
class SavedProof:
    """The content of a proof file.

    Attributes:
        evidence: The evidence to check. Its nonce and TLS keys are claims of the file's maker.
        collateral: The collateral that the quotes were checked against when the file was made, in dcap-qvl's JSON;
            None if unknown.
    """

    evidence: Evidence
    collateral: str | None = None

    def to_json(self) -> bytes:
        """The content of the file. It holds the prompt and the response, but no token."""
        bodies = self.evidence.bodies
        nonce, tls_keys = self.evidence.nonce, self.evidence.tls_keys
        source = {
            "format": FORMAT,
            "request": _encoded(bodies.request) if bodies is not None else None,
            "response": _encoded(bodies.response) if bodies is not None else None,
            "signatures": [_encoded(statement.body) for statement in self.evidence.signatures],
            "reports": [_encoded(statement.body) for statement in self.evidence.reports],
            "nonce": nonce.hex() if nonce is not None else None,
            "tls_keys": sorted(key.hex() for key in tls_keys) if tls_keys is not None else None,
            "collateral": self.collateral,
        }
        return json.dumps(source, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "SavedProof":
        """Read the content of a file.

        Raises:
            FailedError: It is not a proof file. Its claims are not checked here.
        """
        source = parse_object(data, _WHAT)
        if source.get("format") != FORMAT:
            raise FailedError(f"its format is not {FORMAT}")
        if source.keys() != _MEMBERS:
            raise FailedError(f"it has other members than a proof: {', '.join(sorted(source.keys() ^ _MEMBERS))}")
        nonce, tls_keys = source.get("nonce"), source.get("tls_keys")
        evidence = Evidence(
            bodies=SignedBodies(*(_decoded(source.get(name), f"its {name}") for name in ("request", "response"))),
            signatures=_statements(source, "signatures"),
            reports=_statements(source, "reports"),
            nonce=None if nonce is None else hex_bytes(text(source, "nonce", _WHAT), "its nonce", NONCE_BYTES),
            tls_keys=None if tls_keys is None else frozenset(_tls_key(key) for key in items(source, "tls_keys", _WHAT)),
        )
        return cls(evidence, None if source.get("collateral") is None else text(source, "collateral", _WHAT))


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(value: object, what: str) -> bytes:
    if not isinstance(value, str):
        raise FailedError(f"{what} is not a string")
    return base64_bytes(value, what)


def _statements(source: JsonObject, name: str) -> list[Statement]:
    return [Statement(_decoded(body, f"one of its {name}")) for body in items(source, name, _WHAT)]


def _tls_key(digits: object) -> bytes:
    if not isinstance(digits, str):
        raise FailedError("one of its TLS keys is not a string")
    return hex_bytes(digits, "one of its TLS keys", SHA256_BYTES)
