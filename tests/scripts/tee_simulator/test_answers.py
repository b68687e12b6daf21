"""What the simulator answers, against what dstack's own guest agent has answered to the same."""

import json
from typing import Any

import httpx
import pytest

from tests.scripts.tee_simulator.serving import Serving

JSON = {"Content-Type": "application/json"}
KEY = {"path": "p", "purpose": "u"}

REQUESTS: dict[str, tuple[str, str, str | dict[str, Any]]] = {
    "POST /Version {}": ("POST", "/Version", "{}"),
    "POST /GpuInfo {} where there is no GPU": ("POST", "/GpuInfo", "{}"),
    'POST /GetQuote {"report_data": 65 bytes}': ("POST", "/GetQuote", {"report_data": "00" * 65}),
    'POST /GetQuote {"report_data":"zz"}': ("POST", "/GetQuote", '{"report_data":"zz"}'),
    'POST /GetQuote {"report_data":"abc"}': ("POST", "/GetQuote", '{"report_data":"abc"}'),
    'POST /GetQuote {"report_data":5}': ("POST", "/GetQuote", '{"report_data":5}'),
    "POST /GetQuote {bad": ("POST", "/GetQuote", "{bad"),
    'POST /GetKey {"algorithm":"rsa",…}': ("POST", "/GetKey", KEY | {"algorithm": "rsa"}),
    'POST /GetKey {"algorithm":"secp256k1_prehashed",…}': (
        "POST",
        "/GetKey",
        KEY | {"algorithm": "secp256k1_prehashed"},
    ),
    'POST /Sign {"algorithm":"",…}': ("POST", "/Sign", {"algorithm": "", "data": "33"}),
    'POST /Sign {"algorithm":"secp256k1_prehashed","data":"33"}': (
        "POST",
        "/Sign",
        {"algorithm": "secp256k1_prehashed", "data": "33"},
    ),
    'POST /Verify {"public_key":"00",…}': (
        "POST",
        "/Verify",
        {"algorithm": "ed25519", "public_key": "00", "signature": "00" * 64, "data": "33"},
    ),
    'POST /GetTlsKey {"not_before":2,"not_after":1,…}': ("POST", "/GetTlsKey", {"not_before": 2, "not_after": 1}),
    "POST /EmitEvent {…} at 0.6": ("POST", "/EmitEvent", {"event": "e", "payload": "00"}),
    "POST /NoSuchMethod {}": ("POST", "/NoSuchMethod", "{}"),
    "POST /prpc/Info {}": ("POST", "/prpc/Info", "{}"),
    "POST / {}": ("POST", "/", "{}"),
    "PUT /Version": ("PUT", "/Version", "{}"),
    "POST /prpc/Tappd.Version {}": ("POST", "/prpc/Tappd.Version", "{}"),
    'POST /prpc/Tappd.RawQuote {"report_data":"44"}: must be 64 bytes here': (
        "POST",
        "/prpc/Tappd.RawQuote",
        {"report_data": "44"},
    ),
    'POST /prpc/Tappd.TdxQuote {"hash_algorithm":"md5",…}': (
        "POST",
        "/prpc/Tappd.TdxQuote",
        {"hash_algorithm": "md5", "report_data": "44"},
    ),
}
"""Requests by the names that the vectors give them: method, target, body."""

NAMED_ELSEWHERE = {"POST /Verify with other data"}
"""In a test of its own, because it takes a signature."""


def send(served: Serving, socket: str, name: str) -> httpx.Response:
    method, target, body = REQUESTS[name]
    content = body if isinstance(body, str) else json.dumps(body)
    with served.client(tappd=socket == "tappd.sock") as client:
        return client.request(method, target, content=content, headers=JSON)


def test_simulator_responses_match_the_real_agents(dstack_vectors: dict[str, Any], served: Serving) -> None:
    known = [row for row in dstack_vectors["real_agent"]["answers"] if "octet-stream" not in row["content_type"]]
    assert len(known) == 23
    for row in known:
        if row["request"] in NAMED_ELSEWHERE:
            continue
        answer = send(served, row["socket"], row["request"])
        found = (answer.status_code, answer.headers["content-type"])
        assert found == (row["status"], row["content_type"]), row["request"]
        if row["content_type"] != "application/json":
            assert answer.text.startswith("<!DOCTYPE html>")
        elif "ersion" in row["request"]:
            assert answer.json()["version"] == row["body"]["version"]
            assert answer.json()["rev"][:4] == row["body"]["rev"][:4] == "git:"
        else:
            assert answer.json() == row["body"], row["request"]


def test_verify_method_with_other_data_returns_false(served: Serving) -> None:
    with served.client() as client:
        signed = client.post("/Sign", json={"algorithm": "ed25519", "data": "33"}).json()
        said = {"algorithm": "ed25519", "public_key": signed["public_key"], "signature": signed["signature"]}
        assert client.post("/Verify", json=said | {"data": "33"}).json() == {"valid": True}
        assert client.post("/Verify", json=said | {"data": "34"}).json() == {"valid": False}


def types(value: dict[str, Any]) -> dict[str, type]:
    return {name: type(member) for name, member in value.items()}


def test_get_quote_response_has_the_real_agents_members(dstack_vectors: dict[str, Any], served: Serving) -> None:
    real = dstack_vectors["real_agent"]["v1"]["GetQuote"]
    with served.client() as client:
        ours = client.post("/GetQuote", json={"report_data": real["report_data"]}).json()
    assert list(types(ours).items()) == list(types(real).items())
    assert ours["report_data"] == real["report_data"]
    vm_config = json.loads(ours["vm_config"])
    assert {name: type(vm_config[name]) for name in json.loads(real["vm_config"])} == types(
        json.loads(real["vm_config"])
    )


def test_info_response_has_the_real_agents_members(dstack_vectors: dict[str, Any], served: Serving) -> None:
    real = dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]
    with served.client() as client:
        ours = client.post("/Info", content="{bad", headers=JSON).json()  # it takes no arguments, and reads none
    assert list(types(ours).items()) == list(types(real).items())
    assert ours["device_id"] == real["device_id"]
    assert ours["app_cert"].count("BEGIN CERTIFICATE") == 3
    of_ours, of_real = json.loads(ours["tcb_info"]), json.loads(real["tcb_info"])
    assert list(types(of_ours).items()) == list(types(of_real).items())
    assert ours["tcb_info"] == json.dumps(of_ours, indent=2, ensure_ascii=False)


def empty(event: dict[str, Any]) -> tuple[Any, ...]:
    """An event's shape: its kind, its members, and which of them are empty."""
    return (event["imr"], event["event_type"], tuple(event), tuple(name for name in event if event[name] == ""))


def test_event_log_entries_have_the_real_agents_members(dstack_vectors: dict[str, Any], served: Serving) -> None:
    agent = dstack_vectors["real_agent"]["v1"]
    with served.client() as client:
        quoted = json.loads(client.post("/GetQuote", json={}).json()["event_log"])
        told = json.loads(client.post("/Info", json={}).json()["tcb_info"])["event_log"]
    real_quoted = json.loads(agent["GetQuote"]["event_log"])
    real_told = json.loads(agent["Info_without_app_cert"]["tcb_info"])["event_log"]
    assert {empty(event) for event in real_quoted} <= {empty(event) for event in quoted}
    assert {empty(event) for event in real_told} <= {empty(event) for event in told}
    # The agent was run over a log that has no event of RTMR2.
    assert {event["imr"] for event in quoted} - {event["imr"] for event in real_quoted} == {2}
    assert len(quoted) == len(told)


@pytest.mark.parametrize("method", ["Info", "Version", "GpuInfo"])
def test_methods_without_arguments_ignore_the_body(served: Serving, method: str) -> None:
    with served.client() as client:
        assert client.post(f"/{method}", content="[", headers=JSON).status_code == 200
        assert client.post(f"/{method}").status_code == 200


def test_error_responses_are_indented_and_others_are_not(served: Serving) -> None:
    with served.client() as client:
        assert client.post("/Nothing", json={}).text == '{\n  "error": "Service not found: Nothing"\n}'
        assert client.post("/GpuInfo", json={}).text == '{"attestation":""}'


def test_get_request_takes_its_arguments_from_the_query(served: Serving) -> None:
    with served.client() as client:
        asked = {"path": "a path", "purpose": "u", "algorithm": "ed25519"}
        by_post = client.post("/GetKey", json=asked)
        by_get = client.get("/GetKey", params=asked)
        assert (by_get.status_code, by_get.json()) == (200, by_post.json())
        assert client.get("/GetQuote", params={"report_data": "0xFF"}).json()["report_data"] == "ff".ljust(128, "0")
        assert client.get("/GetQuote", params={"report_data": "f"}).json() == {"error": "Odd number of digits"}
        head = client.head("/Version")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(client.get("/Version").content)


def test_body_over_the_limit_gets_400_and_the_connection_stays_open(served: Serving) -> None:
    with served.client() as client:
        answer = client.post("/GetQuote", content=b" " * (12 << 20), headers=JSON)
        assert (answer.status_code, answer.json()) == (400, {"error": "failed to read data: payload too large"})
        assert client.post("/Version", json={}).status_code == 200


def test_request_in_the_rust_sdks_form_is_accepted(served: Serving) -> None:
    """Its target is in absolute form, it names the content type twice, and no host."""
    body = b'{"report_data":"00"}'
    request = (
        b"POST http://unix.socket/GetQuote HTTP/1.1\r\nContent-Type: application/json\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    )
    head, _, answer = served.exchange(request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer)["report_data"] == "00" * 64


def test_chunked_body_is_refused_with_411(served: Serving) -> None:
    request = b"POST /Version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert served.exchange(request).startswith(b"HTTP/1.1 411 ")
