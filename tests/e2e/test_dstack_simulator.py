"""The simulator as a process, before dstack's own client."""

import hashlib
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dcap_qvl  # it has stubs, and no py.typed to say so
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from dstack_sdk import DstackClient
from eth_keys.datatypes import PrivateKey, Signature
from eth_utils.crypto import keccak

from tests.e2e.support.processes import ROOT, Process, clean_env

SCRIPT = ROOT / "scripts" / "dstack_simulator.py"
SEED = "5eed" * 16
REPORT_DATA = bytes(range(64))
RUNTIME_EVENT = 0x08000001


def start(socket_path: Path, *arguments: str | Path) -> Process:
    return Process([sys.executable, SCRIPT, "--socket", socket_path, *arguments], clean_env())


@contextmanager
def running(socket_path: Path, *arguments: str | Path) -> Iterator[Process]:
    process = start(socket_path, *arguments)
    try:
        process.wait_for(rf"listening at {socket_path}\n")
        yield process
    finally:
        process.stop()


def client_of(socket_path: Path, timeout: float = 10) -> DstackClient:
    return DstackClient(endpoint=str(socket_path), timeout=timeout)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Directory of a running simulator's socket, root and collateral."""
    path = tmp_path_factory.mktemp("dstack")
    compose = '{"name": "app of the test",\r\n "runner": "docker-compose"}\n'
    (path / "compose.json").write_bytes(compose.encode())
    options: list[str | Path] = ["--root", path / "root.pem", "--collateral", path / "collateral.json", "--seed", SEED]
    options += ["--identity", path / "identity.json"]
    with running(path / "sock", *options, "--app-compose", path / "compose.json"):
        yield path


@pytest.fixture
def client(files: Path) -> DstackClient:
    return client_of(files / "sock")


def report_of(quote: bytes) -> dcap_qvl.TdReport10:
    report = dcap_qvl.parse_quote(quote).report
    assert isinstance(report, dcap_qvl.TdReport10)
    return report


def test_quote_verifies_against_the_written_root_and_collateral(files: Path, client: DstackClient) -> None:
    quote = client.get_quote(REPORT_DATA).decode_quote()
    loaded = dcap_qvl.QuoteCollateralV3.from_json((files / "collateral.json").read_text())
    root = x509.load_pem_x509_certificate((files / "root.pem").read_bytes()).public_bytes(Encoding.DER)
    verified = dcap_qvl.verify_with_root_ca(quote, loaded, root, int(time.time()))
    assert (verified.status, verified.advisory_ids) == ("UpToDate", [])
    assert report_of(quote).report_data == REPORT_DATA


def test_short_report_data_is_padded(client: DstackClient) -> None:
    answer = client.get_quote(b"hello")
    assert report_of(answer.decode_quote()).report_data == b"hello".ljust(64, b"\0")
    assert answer.report_data == b"hello".ljust(64, b"\0").hex()


def replayed(log: list[dict[str, Any]]) -> list[bytes]:
    """The registers after a log whose runtime digests are left out, by dstack's formula."""
    registers = [bytes(48)] * 4
    for event in log:
        digest = bytes.fromhex(event["digest"])
        if event["event_type"] == RUNTIME_EVENT:
            measured = RUNTIME_EVENT.to_bytes(4, "little") + f":{event['event']}:".encode()
            digest = hashlib.sha384(measured + bytes.fromhex(event["event_payload"])).digest()
        registers[event["imr"]] = hashlib.sha384(registers[event["imr"]] + digest).digest()
    return registers


def test_the_event_log_replays_to_the_quotes_registers(client: DstackClient) -> None:
    answer = client.get_quote(REPORT_DATA)
    report = report_of(answer.decode_quote())
    registers = [report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3]
    assert replayed(json.loads(answer.event_log)) == registers
    assert bytes(48) not in registers


def test_runtime_events_carry_the_app_id_compose_hash_and_key_provider(client: DstackClient) -> None:
    info = client.info()
    runtime = [event for event in client.get_quote(REPORT_DATA).decode_event_log() if event.imr == 3]
    payloads = {event.event: event.event_payload for event in runtime}
    assert (payloads["app-id"], payloads["instance-id"]) == (info.app_id, info.instance_id)
    assert payloads["compose-hash"] == info.compose_hash
    assert bytes.fromhex(payloads["key-provider"]).decode() == info.key_provider_info
    assert [runtime[0].event, runtime[-1].event] == ["system-preparing", "system-ready"]


def test_info_describes_the_same_td_as_the_quote(files: Path, client: DstackClient) -> None:
    info = client.info()
    answer = client.get_quote(REPORT_DATA)
    report = report_of(answer.decode_quote())
    tcb = info.tcb_info
    assert tcb.app_compose.encode() == (files / "compose.json").read_bytes()
    assert info.compose_hash == hashlib.sha256(tcb.app_compose.encode()).hexdigest()
    assert (info.app_name, info.app_id) == ("app of the test", info.compose_hash[:40])
    assert (tcb.mrtd, tcb.rtmr0, tcb.rtmr3) == (report.mr_td.hex(), report.rt_mr0.hex(), report.rt_mr3.hex())
    log = answer.decode_event_log()
    assert [(event.imr, event.event_type, event.event) for event in tcb.event_log] == [
        (event.imr, event.event_type, event.event) for event in log
    ]
    assert all(len(bytes.fromhex(event.digest)) == 48 for event in tcb.event_log)
    assert report.mr_config_id[1:33].hex() == info.compose_hash


def test_version_call_returns_a_version(client: DstackClient) -> None:
    assert client.async_client.PATH_PREFIX == "/"
    assert client.version().version


def test_key_is_32_bytes_and_depends_only_on_its_path(client: DstackClient) -> None:
    key = client.get_key("m/ecdsa-signing-key", "signing").decode_key()
    assert len(key) == 32
    assert client.get_key("m/ecdsa-signing-key", "signing", "ed25519").decode_key() == key
    assert client.get_key("m/ecdsa-signing-key", "another").decode_key() == key
    assert client.get_key("m/ed25519-signing-key", "signing").decode_key() != key


def test_a_keys_signature_chain_leads_to_the_kms_root(files: Path, client: DstackClient) -> None:
    answer = client.get_key("m/key", "signing")
    public_key = PrivateKey(answer.decode_key()).public_key.to_compressed_bytes()
    by_app, by_root = (Signature(signature) for signature in answer.decode_signature_chain())
    app = by_app.recover_public_key_from_msg_hash(keccak(f"signing:{public_key.hex()}".encode()))
    info, identity = client.info(), json.loads((files / "identity.json").read_text())
    issued = b"dstack-kms-issued:" + bytes.fromhex(info.app_id) + app.to_compressed_bytes()
    root = by_root.recover_public_key_from_msg_hash(keccak(issued))
    assert root.to_compressed_bytes().hex() == identity["kms_root"]
    assert json.loads(info.key_provider_info) == {"name": "kms", "id": identity["key_provider_id"]}


def test_keys_repeat_with_the_same_seed_and_differ_without_one(
    files: Path, client: DstackClient, tmp_path: Path
) -> None:
    key = client.get_key("m/key", "signing").key
    compose: list[str | Path] = ["--app-compose", files / "compose.json"]
    with running(tmp_path / "same", "--seed", SEED, *compose), running(tmp_path / "new", *compose):
        assert client_of(tmp_path / "same").get_key("m/key", "signing").key == key
        assert client_of(tmp_path / "new").get_key("m/key", "signing").key != key
    assert list(tmp_path.iterdir()) == []  # nothing is written that was not asked for


def test_keys_differ_between_apps_with_the_same_seed(client: DstackClient, tmp_path: Path) -> None:
    with running(tmp_path / "sock", "--seed", SEED):  # with the compose document of its own
        assert client_of(tmp_path / "sock").get_key("m/key", "signing").key != client.get_key("m/key", "signing").key


def test_debug_td_option_sets_the_debug_attribute_in_the_quote(tmp_path: Path) -> None:
    with running(tmp_path / "sock", "--debug-td"):
        quote = client_of(tmp_path / "sock").get_quote(REPORT_DATA).decode_quote()
    assert report_of(quote).td_attributes[0] & 1 == 1


def test_tappd_interface_is_served_on_its_own_socket(tmp_path: Path) -> None:
    old = tmp_path / "tappd.sock"
    with running(tmp_path / "sock", "--tappd-socket", old):
        assert old.stat().st_mode & 0o777 == 0o600
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(old))) as http:
            quote = http.post("http://localhost/prpc/Tappd.RawQuote", json={"report_data": REPORT_DATA.hex()}).json()
    assert report_of(bytes.fromhex(quote["quote"])).report_data == REPORT_DATA
    assert list(tmp_path.iterdir()) == []


def test_guest_options_appear_in_the_event_log_and_the_quote(tmp_path: Path) -> None:
    options = ["--gpus", "2", "--event-log-version", "2", "--key-provider", "none", "--mr-config-id", "unset"]
    with running(tmp_path / "sock", *options, "--tdx-attestation-variant", "legacy"):
        answer = client_of(tmp_path / "sock").get_quote(REPORT_DATA)
    events = {event["event"]: event for event in json.loads(answer.event_log) if event["imr"] == 3}
    assert {event["version"] for event in events.values()} == {2}
    assert json.loads(bytes.fromhex(events["gpu-attestation"]["event_payload"]))["devices"] == 2
    assert json.loads(bytes.fromhex(events["key-provider"]["event_payload"])) == {"name": "none", "id": ""}
    assert report_of(answer.decode_quote()).mr_config_id == bytes(48)
    assert "tdx_measurement" not in json.loads(answer.vm_config)


def test_delay_option_delays_the_response(tmp_path: Path) -> None:
    with running(tmp_path / "sock", "--delay", "0.5"):
        started = time.monotonic()
        client_of(tmp_path / "sock").version()
        assert time.monotonic() - started >= 0.5
        with pytest.raises(httpx.ReadTimeout):
            client_of(tmp_path / "sock", timeout=0.1).version()


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("GetQuote", b'{"report_data": "%s"}' % (b"00" * 65), 400),
        ("GetQuote", b'{"report_data": "xy"}', 400),
        ("GetQuote", b'{"report_data": 7}', 400),
        ("GetKey", b'{"path": "p", "algorithm": "rsa"}', 400),
        ("GetKey", b"[]", 400),
        ("GetKey", b"{", 400),
        ("GetKey", b" " * (11 << 20), 400),
        ("Sign", b"{}", 400),
        ("EmitEvent", b"{}", 400),
    ],
)
def test_invalid_call_gets_400_with_an_error_message(files: Path, method: str, body: bytes, status: int) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(files / "sock"))) as http:
        answer = http.post(f"http://localhost/{method}", content=body)
        assert answer.status_code == status
        assert answer.json()["error"]
        assert http.post("http://localhost/Version", json={}).status_code == 200


def test_socket_is_accessible_only_to_its_owner(files: Path) -> None:
    assert (files / "sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_simulator_on_a_stop_signal_exits_cleanly_and_removes_its_socket(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "sock"
    with running(path) as process:
        client = client_of(path)
        client.version()  # and the connection stays open
        assert process.stop(how) == 0
    assert process.output == f"listening at {path}\n"
    assert not path.exists()


def test_start_on_a_socket_in_use_fails_and_leaves_the_socket(files: Path, client: DstackClient) -> None:
    second = start(files / "sock")
    assert second.wait() == 1
    assert second.output == (
        f"dstack_simulator: {files / 'sock'} is in use by a running server. "
        "Stop that one or give the socket another path\n"
    )
    assert client.is_reachable()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(path))
    with running(path):
        assert client_of(path).is_reachable()


def test_start_on_a_regular_file_fails_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    process = start(path)
    assert process.wait() == 1
    assert "is no socket" in process.output
    assert path.read_text() == "data"


def test_start_with_an_unwritable_output_file_fails_with_an_error(tmp_path: Path) -> None:
    process = start(tmp_path / "sock", "--root", tmp_path / "missing" / "root.pem")
    assert process.wait() == 1
    assert process.output.startswith(f"dstack_simulator: {tmp_path / 'missing' / 'root.pem'} cannot be written: ")
    assert list(tmp_path.iterdir()) == []


def test_help_warns_that_simulator_output_is_no_proof() -> None:
    process = Process([sys.executable, SCRIPT, "--help"], clean_env())
    assert process.wait() == 0
    assert "Nothing that it makes is worth anything as proof" in process.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "abc"],
        ["--delay", "-1"],
        ["--app-compose", "/nonexistent"],
        ["--app-compose", "/dev/null"],
        ["--gpus", "17"],
        ["--key-provider", "cloud"],
        ["--mr-config-id", "v4"],
        ["--event-log-version", "2", "--os", "0.5"],
        ["--gpus", "1", "--os", "0.5"],
    ],
)
def test_invalid_option_is_named_in_the_error(tmp_path: Path, arguments: list[str]) -> None:
    process = start(tmp_path / "sock", *arguments)
    assert process.wait() == 2
    assert f"argument {arguments[0]}: " in process.output
