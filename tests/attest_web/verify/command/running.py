"""Runs `tee-verify`, with a verifier of quotes that vouches for all of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from attest_web.verify.collateral import QuoteVerdict
from attest_web.verify.command import cli
from tests.attest_web.verify.fake_proxy import TOKEN
from tests.attest_web.verify.minting import (
    REQUEST,
    RESPONSE,
    report,
    signature,
)

UNVERIFIED_GPU = ["--gpu", "unverified"]


class LenientVerifier:
    """Stands in for dcap-qvl, and vouches for every quote."""

    used = '{"collateral":"used"}'

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, quote: bytes) -> QuoteVerdict:
        return QuoteVerdict("UpToDate")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    assert "Traceback" not in said.err
    return status, said.out, said.err


def online(capsys: pytest.CaptureFixture[str], url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    status, out, _ = run(capsys, "--url", url, "--token", TOKEN, "--json", *UNVERIFIED_GPU, "--allow-dev", *arguments)
    found = json.loads(out)
    assert set(found) == {"ok", "checks", "warnings"}
    assert found["ok"] is (status == 0)
    return status, found


def failed(found: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["detail"] for check in found["checks"] if check["status"] == "failed"}


def saved_files(directory: Path) -> list[str]:
    contents = {"request": REQUEST, "response": RESPONSE}
    contents |= {"signature": json.dumps(signature()).encode(), "report": json.dumps(report()).encode()}
    arguments = []
    for name, content in contents.items():
        (directory / name).write_bytes(content)
        arguments += [f"--{name}", str(directory / name)]
    return arguments
