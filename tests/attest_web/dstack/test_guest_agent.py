"""The real dstack-sdk against an agent that answers as a test tells it to."""

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attest_web.dstack.guest_agent import Dstack, DstackError
from tests.attest_web.guest_agent import Answer, agent, answering, as_dstack_answers
from tests.support.limits import limit

SECRET = "5ec2e7" + "00" * 29


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dstack.sock"


def test_signing_keys_are_derived_from_the_contracts_paths(path: Path, vectors: dict[str, str]) -> None:
    secrets = {"org/m/ecdsa-signing-key": "ecdsa_secret", "org/m/ed25519-signing-key": "ed25519_seed"}

    def answer(name: str, body: dict[str, Any]) -> tuple[int, Any]:
        if name == "/Version":
            return 404, {}
        return 200, {"key": vectors[secrets[body["path"]]], "signature_chain": []}

    with agent(path, answer) as asked:
        keys = Dstack(str(path)).signing_keys("org/m").keys
    assert keys.ecdsa_address == vectors["ecdsa_address"]
    assert keys.ed25519_address == vectors["ed25519_public_key"]
    of_keys = [(body["path"], body["purpose"], body["algorithm"]) for name, body in asked if name == "/GetKey"]
    assert of_keys == [(key_path, "signing", "secp256k1") for key_path in secrets]


def test_quote_is_returned_as_dstack_gives_it_and_never_cached(path: Path, dstack_vectors: dict[str, Any]) -> None:
    answered = dstack_vectors["real_agent"]["v1"]["GetQuote"]
    with agent(path, as_dstack_answers(dstack_vectors)) as asked:
        quote = Dstack(str(path)).quote(b"r" * 64)
        again = Dstack(str(path)).quote(b"r" * 64)
    assert (quote.quote, json.dumps(quote.event_log, separators=(",", ":"))) == (
        answered["quote"],
        answered["event_log"],
    )
    assert quote.vm_config == answered["vm_config"]
    assert again == quote
    assert asked == [("/GetQuote", {"report_data": (b"r" * 64).hex()})] * 2, "no quote is ever kept"


def test_a_quote_of_an_old_agent_has_no_vm_config(path: Path) -> None:
    with agent(path, answering(200, {"quote": "ab", "event_log": "[]"})):
        assert Dstack(str(path)).quote(b"r" * 64).vm_config == ""


def test_a_missing_quote_off_tdx_is_a_clear_error(path: Path) -> None:
    """What dstack answers on SEV-SNP: no quote and no log, but an attestation of another kind."""
    answer = {"quote": "", "event_log": "", "report_data": "00", "vm_config": "{}", "attestation": "00ff"}
    with agent(path, answering(200, answer)), pytest.raises(DstackError, match="this platform is not TDX"):
        Dstack(str(path)).quote(b"r" * 64)


def test_info_is_returned_whole_with_tcb_info_parsed(path: Path, dstack_vectors: dict[str, Any]) -> None:
    answered = dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]
    tcb_info = json.loads(answered["tcb_info"])
    tcb_info["event_log"][-1] |= {"version": 2, "preimage": "00"}
    answered = answered | {"tcb_info": json.dumps(tcb_info), "later": {"member": 1}}
    with agent(path, as_dstack_answers(dstack_vectors, Info=(200, answered))):
        assert Dstack(str(path)).info() == answered | {"tcb_info": tcb_info}


def test_info_on_a_platform_other_than_tdx_is_returned(path: Path, dstack_vectors: dict[str, Any]) -> None:
    answer = {"app_id": "00", "tcb_info": json.dumps({"mrtd": None, "app_compose": "{}"})}
    with agent(path, as_dstack_answers(dstack_vectors, Info=(200, answer))):
        assert Dstack(str(path)).info()["tcb_info"]["mrtd"] is None


@pytest.mark.parametrize("answer", [{}, [], {"tcb_info": ""}, {"tcb_info": "[]"}, {"tcb_info": None}, b"no JSON"])
def test_malformed_info_raises_an_error(path: Path, answer: Any) -> None:
    with agent(path, answering(200, answer)), pytest.raises(DstackError, match="this app: its answer could not be"):
        Dstack(str(path)).info()


def test_information_is_cached_for_its_lifetime(path: Path, dstack_vectors: dict[str, Any]) -> None:
    with agent(path, as_dstack_answers(dstack_vectors)) as asked:
        dstack = Dstack(str(path))
        for _ in range(5):
            dstack.info()
            dstack.gpu_info()
        assert [name for name, _ in asked] == ["/Info", "/GpuInfo"]
        short = Dstack(str(path), info_lifetime=0)
        for _ in range(2):
            short.info()
    assert [name for name, _ in asked] == ["/Info", "/GpuInfo", "/Info", "/Info"]


def test_gpu_info_is_returned_byte_for_byte(path: Path, dstack_vectors: dict[str, Any]) -> None:
    with agent(path, as_dstack_answers(dstack_vectors)):
        text = Dstack(str(path)).gpu_info()
    assert text == dstack_vectors["gpu"]["gpu_info_attestation"]
    assert text is not None
    assert text.endswith("}\n")


@pytest.mark.parametrize("answer", [(200, {"attestation": ""}), None, (404, b"<html>")], ids=["empty", "400", "404"])
def test_gpu_info_without_a_checked_gpu_is_none(
    path: Path, dstack_vectors: dict[str, Any], answer: tuple[int, Any] | None
) -> None:
    with agent(path, as_dstack_answers(dstack_vectors, GpuInfo=answer)):
        assert Dstack(str(path)).gpu_info() is None


@pytest.mark.parametrize("answer", [(500, {}), (200, {}), (200, []), (200, {"attestation": 1})])
def test_failed_gpu_evidence_is_an_error_and_is_not_cached(
    path: Path, dstack_vectors: dict[str, Any], answer: tuple[int, Any]
) -> None:
    dstack = Dstack(str(path))
    with agent(path, as_dstack_answers(dstack_vectors, GpuInfo=answer)), pytest.raises(DstackError, match="the GPUs"):
        dstack.gpu_info()
    path.unlink()
    with agent(path, as_dstack_answers(dstack_vectors)):
        assert dstack.gpu_info() == dstack_vectors["gpu"]["gpu_info_attestation"]


def test_a_missing_socket_is_a_clear_error(path: Path) -> None:
    with pytest.raises(DstackError, match="its socket is not there"):
        Dstack(str(path)).signing_keys("m")


def test_an_error_names_the_agents_socket_and_no_password(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DstackError, match=f"not there .*; it was asked at {path}$"):
        Dstack(str(path)).info()
    monkeypatch.setenv("DSTACK_SIMULATOR_ENDPOINT", "http://me:s3cret@127.0.0.1:1")
    with pytest.raises(DstackError, match=r"asked at http://127\.0\.0\.1:1$"):
        Dstack().info()


def test_a_refused_connection_to_the_socket_is_a_clear_error(path: Path) -> None:
    with agent(path, answering(200, {})):
        pass
    with pytest.raises(DstackError, match="cannot be talked to"):
        Dstack(str(path)).quote(b"r" * 64)


def test_agent_that_is_too_slow_raises_a_timeout_error(path: Path) -> None:
    go_on = threading.Event()

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        go_on.wait(limit())
        return 200, {}

    with agent(path, answer):
        with pytest.raises(DstackError, match=r"within 0\.2 seconds"):
            Dstack(str(path), timeout=0.2).quote(b"r" * 64)
        go_on.set()


@pytest.mark.parametrize(
    "answer",
    [
        answering(500, {"error": SECRET}),
        answering(200, b"not JSON " + SECRET.encode()),
        answering(200, {"key": SECRET[:-2], "signature_chain": []}),
        answering(200, {"key": "no hex " + SECRET, "signature_chain": []}),
        answering(200, {"key": 7, "signature_chain": []}),
        answering(200, [SECRET]),
        answering(200, {"key": "00" * 32, "signature_chain": []}),
    ],
    ids=["500", "no JSON", "31 bytes", "no hex", "a number", "a list", "no scalar"],
)
def test_malformed_signing_key_raises_a_one_line_error_that_does_not_quote_it(path: Path, answer: Answer) -> None:
    with agent(path, answer), pytest.raises(DstackError) as caught:
        Dstack(str(path)).signing_keys("m")
    assert "signing keys" in str(caught.value)
    assert SECRET[:6] not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "answer",
    [
        {"quote": "no hex", "event_log": "[]"},
        {"quote": "ab", "event_log": "{"},
        {"quote": "ab", "event_log": "{}"},
        {"event_log": "[]"},
        {},
    ],
)
def test_malformed_quote_raises_an_error(path: Path, answer: Any) -> None:
    with agent(path, answering(200, answer)), pytest.raises(DstackError, match="could not be read"):
        Dstack(str(path)).quote(b"r" * 64)


@pytest.mark.parametrize("status", [400, 404])
def test_agent_without_the_version_method_is_treated_as_old(
    path: Path, dstack_vectors: dict[str, Any], status: int
) -> None:
    with agent(path, as_dstack_answers(dstack_vectors, Version=(status, b"<html>"))) as asked:
        chains = Dstack(str(path)).signing_keys("m").chains
        Dstack(str(path)).tls_key(["localhost"])
    assert chains.ecdsa is not None
    assert chains.ed25519 is None
    assert [body.get("algorithm") for name, body in asked if name == "/GetKey"] == ["secp256k1"] * 2
    assert not any("with_app_info" in body for _, body in asked)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, {}), "it answered with HTTP status 500"),
        ((503, b"busy"), "it answered with HTTP status 503"),
        ((403, b""), "it answered with HTTP status 403"),
        ((200, {}), "its answer could not be read"),
        ((200, b"no JSON"), "its answer could not be read"),
    ],
)
def test_agent_whose_version_call_fails_is_an_error_and_not_treated_as_old(
    path: Path, dstack_vectors: dict[str, Any], answer: tuple[int, Any], reason: str
) -> None:
    dstack = Dstack(str(path))
    with agent(path, as_dstack_answers(dstack_vectors, Version=answer)) as asked:
        with pytest.raises(DstackError, match=f"no answer on signing keys: {reason}"):
            dstack.signing_keys("m")
        with pytest.raises(DstackError, match=f"no answer on a TLS key: {reason}"):
            dstack.tls_key(["localhost"])
    assert [name for name, _ in asked] == ["/GetKey", "/Version", "/Version"]


DEEP = b"[" * 100_000 + b"]" * 100_000
NOT_SHOWN = {
    "surrogate": rb'"\ud800"',
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "overflow": b"1e999",
    "100 deep": b"[" * 100 + b"]" * 100,
    "100000 deep": DEEP,
}


@pytest.mark.parametrize("value", NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_agent_response_with_json_no_report_can_show_raises_an_error(path: Path, value: bytes) -> None:
    event_log = json.dumps(b'[{"imr":%s}]' % value, default=bytes.decode).encode()
    tcb_info = json.dumps(b'{"app_compose":%s}' % value, default=bytes.decode).encode()
    dstack = Dstack(str(path))
    calls: list[tuple[Callable[[], object], bytes]] = [
        (lambda: dstack.quote(b"r" * 64), b'{"quote":"ab","event_log":%s}' % event_log),
        (lambda: dstack.quote(b"r" * 64), b'{"quote":"ab","event_log":"[]","vm_config":%s}' % value),
        (dstack.info, b'{"tcb_info":%s}' % tcb_info),
        (dstack.info, b'{"tcb_info":{"app_compose":%s}}' % value),
        (dstack.info, b'{"tcb_info":{},"vm_config":%s}' % value),
        (dstack.gpu_info, b'{"attestation":%s}' % value),
    ]
    for call, answer in calls:
        path.unlink(missing_ok=True)
        with agent(path, answering(200, answer)), pytest.raises(DstackError, match="its answer could not be read"):
            call()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "status 400, as OS versions before 0.6 do"),
        ((404, b"<html>"), "status 404, as OS versions before 0.6 do"),
        ((400, {"error": "cannot read the evidence"}), "status 400, though it seems to know that method"),
    ],
)
def test_missing_gpu_info_is_logged_once(
    path: Path,
    dstack_vectors: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    answer: tuple[int, Any] | None,
    why: str,
) -> None:
    dstack = Dstack(str(path))
    with (
        caplog.at_level(logging.INFO, "attest_web"),
        agent(path, as_dstack_answers(dstack_vectors, GpuInfo=answer)) as asked,
    ):
        assert [dstack.gpu_info() for _ in range(3)] == [None] * 3
    [record] = [record for record in caplog.records if record.name == "attest_web.dstack.guest_agent"]
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("reports go without gpu_info: ")
    assert why in record.getMessage()
    assert "cannot read" not in record.getMessage()
    assert len(asked) == 3, "it may have one later"
