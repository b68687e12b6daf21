"""The evidence to be checked: the bytes of an exchange, its signatures and the reports about their keys."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.nvidia.service import NvidiaAnswers
from attest_web.verify.signed_text import SignedBodies


@dataclass(frozen=True)
class Statement:
    """The body of a proof endpoint's response, as received.

    Attributes:
        body: JSON, not yet read.
        algo: The requested algorithm; None where any is accepted.
    """

    body: bytes
    algo: SigningAlgo | None = None


@dataclass
class Evidence:
    """Everything to be checked.

    Attributes:
        bodies: Of request and response; None where only reports are checked.
        signatures: Responses of `/v1/signature/{id}`.
        reports: Responses of `/v1/attestation/report`.
        attestation_asked: Whether reports are required.
        nonce: 32 bytes that the reports were requested with; None where it is unknown.
        tls_keys: SHA-256 of the SPKI of every certificate that the server has shown; None where the TLS binding is
            not checked.
    """

    bodies: SignedBodies | None = None
    signatures: list[Statement] = field(default_factory=list)
    reports: list[Statement] = field(default_factory=list)
    attestation_asked: bool = True
    nonce: bytes | None = None
    tls_keys: frozenset[bytes] | None = None

    @property
    def complete(self) -> bool:
        """Whether there is a chat, and a signature and a report by each algorithm."""
        return self.bodies is not None and all(
            {statement.algo for statement in statements} >= set(SIGNING_ALGOS)
            for statements in (self.signatures, self.reports)
        )


def save(evidence: Evidence, collateral: str | None, directory: Path, nvidia: NvidiaAnswers | None = None) -> list[str]:
    """Write everything into a directory that only its owner can read; return the arguments that check it again.

    Args:
        evidence: What was fetched.
        collateral: What the quotes were checked against, in JSON, if they were.
        directory: Created if it does not exist.
        nvidia: The responses of NVIDIA's service. They are kept for `--at`, without an argument among the returned
            ones, which query the service again.

    Raises:
        OSError: It cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments: list[str] = []

    def keep(option: str, name: str, content: bytes) -> None:
        path = directory / name
        write_private(path, content)
        arguments.extend((option, str(path)))

    if evidence.bodies is not None:
        keep("--request", "request.json", evidence.bodies.request)
        keep("--response", "response", evidence.bodies.response)
    for option, kind, statements in (
        ("--signature", "signature", evidence.signatures),
        ("--report", "report", evidence.reports),
    ):
        for number, statement in enumerate(statements):
            keep(option, f"{kind}-{statement.algo or number}.json", statement.body)
    if evidence.reports and evidence.nonce is not None:
        arguments += ["--nonce", evidence.nonce.hex()]
    for key in sorted(evidence.tls_keys or ()):
        arguments += ["--tls-spki", key.hex()]
    if collateral is not None:
        keep("--collateral", "collateral.json", collateral.encode())
    if nvidia is not None and nvidia.answers:
        for number, answer in enumerate(nvidia.answers, 1):
            write_private(directory / f"nvidia-answer-{number}.json", answer)
        write_private(directory / "nvidia-keys.json", nvidia.jwks)
    return arguments


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, in place of an existing one.

    Raises:
        OSError: It cannot be written, or is a symbolic link.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # of a descriptor
        os.fchmod(descriptor, 0o600)  # an existing file keeps its mode otherwise
        file.write(content)
