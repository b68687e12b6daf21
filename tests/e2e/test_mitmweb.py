"""What ops see in mitmweb, in its page and by its API: how exchanges stand, and not what was said."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.support.marked_traffic import ANSWER, FOREIGN, PROMPT, exercise, exercise_websockets, upstream_answers
from tests.e2e.support.mitmweb import Mitmweb, running_mitmweb
from tests.e2e.support.processes import PROGRAMS, TOKEN, Proxy, Simulator, start_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_request
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    json_response,
)
from tests.support import verification
from tests.support.limits import limit
from tests.support.verification import sha256

UNSEEN = [mark.encode() for mark in (PROMPT, ANSWER, FOREIGN, TOKEN)]
UNSEEN += [mark.hex().encode() for mark in UNSEEN]
CHAT = json.dumps({"model": "org/m-1", "messages": [{"role": "user", "content": PROMPT}]}).encode()
USAGE = b'"usage":{"prompt_tokens":12,"completion_tokens":34}'
JSON = b'{"id":"c-1","choices":[{"message":{"content":"%s"}}],%s}' % (ANSWER.encode(), USAGE)
EVENT = b'data: {"id":"c-2","choices":[{"delta":{"content":"%s"}}],%s}\n\n' % (ANSWER.encode(), USAGE)
DONE = b"data: [DONE]\n\n"
VERIFIED = "verified: all 8 checks that could be made hold"


def script(peer: Peer) -> None:
    """Answers with usage and with errors; and what `exercise` asks for."""
    while received := peer.read_request():
        match received.header("x-what"):
            case "usage":
                peer.send(json_response(JSON))
            case "usage stream":
                peer.send(SSE_HEAD + chunk(EVENT) + chunk(DONE) + LAST_CHUNK)
            case "down":
                peer.send(json_response(b"{}", "503 Service Unavailable"))
            case _:
                upstream_answers(received, peer)


Running = tuple[Proxy, Mitmweb, ScriptedUpstream]


@pytest.fixture(scope="module")
def mitmweb(simulator: Simulator) -> Iterator[Running]:
    with ScriptedUpstream(script) as upstream:
        with running_mitmweb(upstream.url, **simulator.settings) as (proxy, web):
            yield proxy, web, upstream


@pytest.fixture
def running(mitmweb: Running) -> Running:
    """A mitmweb with an empty list of flows, and its upstream."""
    mitmweb[1].ask("/clear", {})
    return mitmweb


def ask(port: int, request: bytes, method: str = "POST") -> tuple[int, str, bytes]:
    """Send a request; return status, receipt and body of the answer."""
    with RawClient(port) as client:
        client.send(request)
        status, headers, body = client.read_response(method)
        return status, headers["x-receipt-id"] or "", body


def ended(count: int) -> Any:
    return lambda found: len(found) == count and "pending" not in str(found)


def check_unseen(content: bytes) -> None:
    for mark in UNSEEN:
        at = content.find(mark)
        assert at < 0, content[max(0, at - 300) : at + 100]


def test_api_responses_contain_no_prompt_model_output_or_token(running: Running) -> None:
    proxy, web, _ = running
    exercise(proxy)
    ask(proxy.port, chat_request(CHAT, path="/v1/audio/transcriptions", X_What="usage stream"))
    flows = web.wait_for(lambda found: len(found) > 15 and "pending" not in str(found))
    for path in ("/flows", "/flows/dump", "/events"):
        status, content = web.ask(path)
        assert status == 200
        check_unseen(content)
    for flow in flows:
        for message in ("request", "response"):
            if flow.get(message) is None:
                continue
            status, content = web.ask(f"/flows/{flow['id']}/{message}/content.data")
            assert status == 200, (flow["comment"], message, content)
            check_unseen(content)
            for view in ("auto", "raw", "hex stream", "json", "tee proof"):
                check_unseen(json.dumps(web.content(flow, message, view)).encode())


def test_flow_list_marks_each_flow_with_its_signing_state(running: Running) -> None:
    proxy, web, _ = running
    receipt = ask(proxy.port, chat_request(CHAT, X_What="usage"))[1]
    ask(proxy.port, chat_request(CHAT, token=None))
    ask(proxy.port, chat_request(CHAT, X_What="down"))
    ask(proxy.port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "GET")
    ask(proxy.port, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", "GET")
    with RawClient(proxy.port) as client:
        client.send(chat_request(CHAT, X_What="cut"))
        client.read_to_end()
    flows = web.wait_for(ended(6))
    not_due = "\N{HEAVY MINUS SIGN}"
    assert [(flow["marked"], flow["comment"]) for flow in flows[:5]] == [
        ("✅", f"signed · org/m-1 · 12 → 34 tokens · {receipt}"),
        ("⚠", "unsigned: answered here with 401"),
        ("❌", "failed: the upstream answered with an error (503) · org/m-1"),
        (not_due, "unsigned: a proof page"),
        (not_due, "unsigned: this endpoint is not signed"),
    ]
    assert (flows[5]["marked"], flows[5]["comment"].partition(":")[0]) == ("❌", "failed")


@pytest.mark.parametrize("what", ["usage", "usage stream"])
def test_the_proof_view_shows_what_was_signed_and_verifies_it(running: Running, what: str) -> None:
    proxy, web, _ = running
    _, receipt, answer = ask(proxy.port, chat_request(CHAT, X_What=what))
    [flow] = web.wait_for(ended(1))
    for message in ("request", "response"):
        shown = web.content(flow, message)
        assert shown["view_name"] == "TEE proof"
        lines = shown["text"].splitlines()
        assert f"receipt    {receipt}" in lines
        assert "tokens     12 → 34 tokens" in lines
        assert f"request    {len(CHAT)} bytes, SHA-256 {sha256(CHAT)}" in lines
        assert f"response   {len(answer)} bytes, SHA-256 {sha256(answer)}" in lines
        assert f"text       {sha256(CHAT)}:{sha256(answer)}" in lines
        assert sum(line.startswith("✓ ") for line in lines) == 8
        assert lines[-1] == VERIFIED


def test_proof_view_of_a_closed_websocket_verifies_it(running: Running) -> None:
    proxy, web, _ = running
    exercise_websockets(proxy)
    flows = web.wait_for(lambda found: len(found) == 5 and "pending" not in str(found))
    assert [flow["marked"] for flow in flows] == ["✅", "✅", *"⚠⚠⚠"]
    for message in ("request", "response"):
        lines = web.content(flows[0], message)["text"].splitlines()
        assert f"receipt    {dict(flows[0]['response']['headers'])['x-receipt-id']}" in lines
        assert lines[-1] == "verified: all 4 checks that could be made hold"


def test_commands_apply_to_the_flow_last_viewed(running: Running) -> None:
    proxy, web, _ = running
    signed = int(web.command("tee.stats")[0].removeprefix("signed: "))
    receipts = [ask(proxy.port, chat_request(CHAT, X_What="usage"))[1] for _ in range(2)]
    ask(proxy.port, chat_request(CHAT, token=None))
    flows = web.wait_for(ended(3))
    assert web.command("tee.stats")[0] == f"signed: {signed + 2}"
    for number in (1, 0):
        web.content(flows[number], "response")
        for arguments in ([], ["@focus"], [f"@{flows[number]['id']}"]):
            title, text, *_ = web.command("tee.signature", *arguments)
            assert title.endswith(receipts[number])
            assert text.startswith("text       ")
            assert web.command("tee.verify", *arguments)[-1] == VERIFIED
    check_attestation(web)
    web.content(flows[2], "request")
    assert web.command("tee.verify") == [
        "POST /v1/chat/completions: unsigned: answered here with 401",
        "NOT verified: there is no signature",
    ]
    assert web.command("tee.attestation") == "Choose one flow that has been signed."
    assert web.command("tee.verify", "~m NONE") == "Choose a flow, or name 1 to 20; these are 0."
    copy = web.ask(f"/flows/{flows[0]['id']}/duplicate", {})[1].decode()
    assert web.command("tee.verify", f"@{copy}").startswith("Nothing is known here of this flow")


def check_attestation(web: Mitmweb) -> None:
    assert "being made" in web.command("tee.attestation")[-1]
    web.wait_for(lambda _: b"reports are there" in web.ask("/events")[1])
    found = web.command("tee.attestation")
    assert any(line.startswith("✓ ecdsa key attested") for line in found), found
    assert any(line.startswith("✓ ed25519 address bound") for line in found)
    assert any(line.startswith("✗ ecdsa keys: the report says that they are random keys") for line in found)
    assert "NOT verified: ecdsa keys" in found


def test_intercepted_request_shows_no_body_and_is_forwarded_unchanged(running: Running) -> None:
    """An intercepted flow waits for as long as somebody likes; one whose upstream is slow, for as long as that is."""
    proxy, web, upstream = running
    while not upstream.requests.empty():
        upstream.requests.get()
    assert web.ask("/options", {"intercept": "~q"}, "PUT")[0] == 200
    try:
        with RawClient(proxy.port) as client:
            client.send(chat_request(CHAT, X_What="usage"))
            [flow] = web.wait_for(lambda found: found and found[0]["intercepted"])
            assert (flow["marked"], flow["comment"]) == ("⏳", "pending · org/m-1")
            status, content = web.ask(f"/flows/{flow['id']}/request/content.data")
            assert status == 200
            check_unseen(content)
            check_unseen(web.ask("/flows/dump")[1])
            web.ask(f"/flows/{flow['id']}/resume", {})
            assert upstream.requests.get(timeout=limit()).body == CHAT
            assert client.read_response()[0] == 200
        [flow] = web.wait_for(ended(1))
        assert web.content(flow, "request")["text"].endswith(VERIFIED)
    finally:
        web.ask("/options", {"intercept": None}, "PUT")


def headers_with(**more: str) -> dict[str, Any]:
    headers = {"Host": "x", "Content-Type": "application/json", "X-What": "usage", **more}
    return {"headers": [[name.replace("_", "-"), value] for name, value in headers.items()]}


@pytest.mark.parametrize(
    ("edit", "sent", "is_changed"),
    [
        ({"content": "GET /hidden HTTP/1.1\r\n\r\n"}, b"GET /hidden HTTP/1.1\r\n\r\n", True),
        ({"content": ""}, b"", True),
        ({**headers_with(Content_Encoding="none"), "content": "x"}, b"x", True),
        ({"path": "/v1/completions"}, CHAT, True),
        (headers_with(Content_Length="1"), CHAT, False),
        (headers_with(Content_Length="99", Transfer_Encoding="chunked"), CHAT, False),
        (headers_with(X_Other="y"), CHAT, False),
    ],
    ids=["body", "no body", "no encoding", "path", "short length", "two framings", "another header"],
)
def test_edited_request_is_reframed_and_unsigned_if_its_body_or_path_changed(
    running: Running, edit: dict[str, Any], sent: bytes, is_changed: bool
) -> None:
    proxy, web, upstream = running
    while not upstream.requests.empty():
        upstream.requests.get()
    assert web.ask("/options", {"intercept": "~q"}, "PUT")[0] == 200
    try:
        with RawClient(proxy.port) as client, Asker(proxy.port) as asker:
            client.send(chat_request(CHAT, X_What="usage"))
            [flow] = web.wait_for(lambda found: found and found[0]["intercepted"])
            assert web.ask(f"/flows/{flow['id']}", {"request": edit}, "PUT")[0] == 200
            web.ask("/options", {"intercept": None}, "PUT")
            web.ask(f"/flows/{flow['id']}/resume", {})
            assert upstream.requests.get(timeout=limit()).body == sent
            status, headers, body = client.read_response()
            assert (status, body, upstream.requests.empty()) == (200, JSON, True)
            status, _, answer = asker.get(f"/v1/signature/{headers['x-receipt-id']}")
            if is_changed:
                assert (status, answer["error"]["code"]) == (404, "not_signed")
                assert "changed here" in answer["error"]["message"]
            else:
                verification.check(answer, CHAT, JSON)
    finally:
        web.ask("/options", {"intercept": None}, "PUT")


def test_flow_list_is_bounded_and_shows_kept_plaintext_under_a_banner() -> None:
    with ScriptedUpstream(script) as upstream:
        with running_mitmweb(upstream.url, KEEP_FLOWS="5", INSPECT_PLAINTEXT="1") as (proxy, web):
            for _ in range(25):
                receipt = ask(proxy.port, chat_request(CHAT, X_What="usage"))[1]
                assert len(web.flows()) <= 5
            flow = web.wait_for(ended(5))[-1]
            assert flow["comment"].endswith(receipt)
            for message, body, said in (("request", CHAT, PROMPT), ("response", JSON, ANSWER)):
                shown = web.content(flow, message)["text"]
                assert shown.startswith("!!! INSPECT_PLAINTEXT is on")
                assert VERIFIED in shown
                assert said in shown.partition(VERIFIED)[2]
                assert web.ask(f"/flows/{flow['id']}/{message}/content.data")[1] == body


def rows(page: Page) -> Any:
    return page.locator("tr:has(td.col-path)")


def give(page: Page, command: str) -> Any:
    """Type a command into the command bar; return where its result is shown."""
    bar = page.get_by_placeholder("Enter command")
    bar.fill(command)
    bar.press("Enter")
    return page.locator(".command-result > div").last


def test_mitmweb_page_shows_marks_comments_proofs_and_command_results(running: Running, browser: Browser) -> None:
    proxy, web, _ = running
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(web.page)
        receipts = [ask(proxy.port, chat_request(CHAT, X_What=what))[1] for what in ("usage", "usage stream")]
        ask(proxy.port, chat_request(CHAT, X_What="down"))
        expect(rows(page)).to_have_count(3)
        for number, (mark, comment) in enumerate([("✅", "signed"), ("✅", "signed"), ("❌", "failed: the upstream")]):
            expect(rows(page).nth(number).locator(".marker")).to_have_text(mark)
            expect(rows(page).nth(number).locator("td.col-comment")).to_have_text(re.compile(f"^{comment}"))
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Display Command Bar").check()
        for number in (1, 0):
            rows(page).nth(number).click()
            for tab in ("Request", "Response"):
                page.get_by_role("link", name=tab, exact=True).click()
                expect(page.locator(".contentview")).to_contain_text(VERIFIED)
                expect(page.locator(".contentview")).to_contain_text(receipts[number])
            for command in ("tee.verify @focus", "tee.verify"):
                result = give(page, command)
                expect(result).to_contain_text(VERIFIED)
                expect(result).to_contain_text(receipts[number])
        expect(give(page, "tee.stats")).to_contain_text("flows listed: 3")
        check_unseen(page.content().encode())


def test_inspection_modules_are_loaded_only_in_mitmweb(fake_vllm: str, free_ports: list[int]) -> None:
    web = ["--no-web-open-browser", "--set", f"web_port={free_ports[0]}"]
    watched, *others = (
        start_proxy(fake_vllm, *arguments, program=program, PYTHONPROFILEIMPORTTIME="1")
        for program, arguments in [("mitmweb", web), *((program, []) for program in PROGRAMS)]
    )
    for process in (watched, *others):
        process.wait_for("proof pages on side port")
        assert process.stop() == 0
    for module in (
        "addons.inspection.inspection",
        "addons.inspection.flow_list",
        "addons.inspection.inspected_flow",
    ):
        assert module in watched.output
        assert all(module not in process.output for process in others)
    assert all("addons.signing.signer" in process.output for process in others)
