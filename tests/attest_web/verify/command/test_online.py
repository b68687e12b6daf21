"""What a proxy answers about its exchanges: why one is not signed, and ids that name something else."""

import json
import re

import pytest

from attest_web.verify.command import cli
from attest_web.verify.command.online import Chat, EvidenceCollector
from attest_web.verify.primitives.http_client import HttpClient, Origin
from tests.attest_web.verify.command.running import LenientVerifier, failed, online, run
from tests.attest_web.verify.fake_proxy import TOKEN, fake_proxy
from tests.attest_web.verify.minting import NONCE


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "DcapVerifier", LenientVerifier)


def not_signed(message: object, code: object = "not_signed") -> tuple[int, bytes]:
    error = {"message": message, "type": "not_found", "param": None, "code": code}
    return 404, json.dumps({"error": error}).encode()


@pytest.mark.usefixtures("lenient")
def test_the_reason_for_which_an_exchange_was_not_signed_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_proxy({"/v1/signature": not_signed("The answer was cut short by the upstream.")}) as proxy:
        status, found = online(capsys, proxy.url)
    assert status == 1
    why = "the proxy has no signature for it: The answer was cut short by the upstream"
    assert {failed(found)[f"{algo} signature"] for algo in ("ecdsa", "ed25519")} == {why}


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (not_signed("No such id.", None), "/v1/signature/chatcmpl-1 returned 404: No such id"),
        ((404, b"{}"), "/v1/signature/chatcmpl-1 returned 404; is this a tee-signer, and new enough?"),
    ],
)
def test_signature_404_without_a_reason_shows_a_hint(
    capsys: pytest.CaptureFixture[str], answer: tuple[int, bytes], told: str
) -> None:
    with fake_proxy({"/v1/signature": answer}) as proxy:
        _, found = online(capsys, proxy.url)
    assert re.sub(r"/chatcmpl-[^ ]+", "/chatcmpl-1", failed(found)["ecdsa signature"]) == told


def test_not_signed_reason_that_is_stored_late_is_polled_for() -> None:
    waited: list[float] = []
    with fake_proxy({"/v1/signature": (404, b"{}")}) as proxy:

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 2:
                proxy.replaced["/v1/signature"] = not_signed("cut short")

        collector = EvidenceCollector(HttpClient(Origin.parse(proxy.url), TOKEN), NONCE, sleep=sleep)
        collector.collect(Chat("hello"))
    assert len(waited) == 2
    said = {check.name: check.detail for check in collector.checks}
    assert said["ecdsa signature"] == said["ed25519 signature"] == "the proxy has no signature for it: cut short"


@pytest.mark.usefixtures("lenient")
def test_a_reason_is_cut_and_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = "\r\x1b[2K\u202e✓ ecdsa signature: " + "x" * 10_000
    with fake_proxy({"/v1/signature": not_signed(drawn)}) as proxy:
        said = failed(online(capsys, proxy.url)[1])["ecdsa signature"]
        plain = run(capsys, "--url", proxy.url, "--token", TOKEN)[1]
    assert len(said) < 300
    assert said.isprintable()
    assert not any(line.startswith("✓ ecdsa signature") for line in plain.splitlines())
    assert {"\x1b", "\r", "\u202e"} & set(plain) == set()


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    "answer", [not_signed(7), not_signed(""), not_signed("no", "NOT_SIGNED"), (404, b'{"error":[]}')]
)
def test_a_404_without_a_reason_is_reported_as_any_other_404(
    capsys: pytest.CaptureFixture[str], answer: tuple[int, bytes]
) -> None:
    with fake_proxy({"/v1/signature": answer}) as proxy:
        assert "returned 404" in failed(online(capsys, proxy.url)[1])["ecdsa signature"]


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("response_id", [".", "..", "", "x" * 513, 7, "\ud800"])
def test_an_id_that_could_name_another_page_is_not_requested(
    capsys: pytest.CaptureFixture[str], response_id: object
) -> None:
    with fake_proxy({"/v1/chat": (200, json.dumps({"id": response_id}).encode())}) as proxy:
        assert "no id" in failed(online(capsys, proxy.url)[1])["chat"]
        assert not any("signature" in path for path in proxy.asked)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    "receipts",
    [["rcpt-" + "0" * 24] * 2, ["rcpt-" + "0" * 23], ["rcpt-" + "A" * 24], ["rcpt-" + "0" * 24 + "/.."], [".."], []],
)
def test_a_malformed_receipt_id_or_two_of_them_are_not_requested(
    capsys: pytest.CaptureFixture[str], receipts: list[str]
) -> None:
    with fake_proxy(receipts=receipts) as proxy:
        found = online(capsys, proxy.url)[1]
        asked = [path for path in proxy.asked if path.startswith("/v1/signature/")]
    assert set(failed(found)) == {"ecdsa receipt", "ed25519 receipt"}
    assert all(path.startswith("/v1/signature/chatcmpl-1?") for path in asked)
