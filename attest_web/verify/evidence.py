"""What is checked: the bytes of an exchange, its signatures and the reports about their keys."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from attest_web.signatures import SIGNING_ALGOS, SigningAlgo
from attest_web.verify.nvidia.service import Heard
from attest_web.verify.signed_text import Exchange


@dataclass(frozen=True)
class Statement:
    """The body of an answer of a proof endpoint, as it came.

    Attributes:
        body: JSON, not yet read.
        algo: The algorithm that was asked for; None where it is whatever the body says.
    """

    body: bytes
    algo: SigningAlgo | None = None


@dataclass
class Evidence:
    """Everything that there is to check.

    Attributes:
        exchange: Request and response; None where only reports are checked.
        signatures: What `/v1/signature/{id}` answered, each time.
        reports: What `/v1/attestation/report` answered, each time.
        attestation_asked: Whether reports must be there.
        nonce: 32 bytes that the reports were asked for with; None where nobody knows.
        tls_keys: SHA-256 of the SPKI of every certificate that the server has shown; None where TLS is not
            asked about.
    """

    exchange: Exchange | None = None
    signatures: list[Statement] = field(default_factory=list)
    reports: list[Statement] = field(default_factory=list)
    attestation_asked: bool = True
    nonce: bytes | None = None
    tls_keys: frozenset[bytes] | None = None

    @property
    def complete(self) -> bool:
        """Whether there is a chat, and a signature and a report by each algorithm."""
        return self.exchange is not None and all(
            {statement.algo for statement in statements} >= set(SIGNING_ALGOS)
            for statements in (self.signatures, self.reports)
        )


def save(evidence: Evidence, collateral: str | None, directory: Path, nvidia: Heard | None = None) -> list[str]:
    """Write everything into a directory, which nobody else can read; return the arguments that check it again.

    Args:
        evidence: What was fetched.
        collateral: What the quotes were checked against, in JSON, if they were.
        directory: Made where it is not there.
        nvidia: What NVIDIA's service has answered. That is kept for `--at`, and no argument of those that are returned:
            they ask it anew.

    Raises:
        OSError: It cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments: list[str] = []

    def keep(option: str, name: str, content: bytes) -> None:
        path = directory / name
        write_private(path, content)
        arguments.extend((option, str(path)))

    if evidence.exchange is not None:
        keep("--request", "request.json", evidence.exchange.request)
        keep("--response", "response", evidence.exchange.response)
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
    """Write a file that nobody else can read, in place of the one that is there, if any.

    Raises:
        OSError: It cannot be written, or is a symbolic link.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # of a descriptor
        os.fchmod(descriptor, 0o600)  # where it was there before
        file.write(content)
