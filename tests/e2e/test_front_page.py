"""The front page in a real browser: the truth, and each kind of lie."""

import base64
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Route, expect

from attest_web.gpu.evidence import find_gpu_python
from tests.e2e.support.front_page import QUESTION, FrontPage, SignedChat, have_chat, opened
from tests.e2e.support.processes import BIN, ROOT, TOKEN, Proxy, Simulator, clean_env, running_proxy
from tests.support.limits import limit

SIGNATURES, REPORTS = "/v1/signature/*", "/v1/attestation/report*"
NO_ED25519 = """if (globalThis.SubtleCrypto) {
  SubtleCrypto.prototype.importKey = async () => { throw new DOMException("", "NotSupportedError") }
}"""

needs_gpu_library = pytest.mark.skipif(
    find_gpu_python(ROOT) is None, reason="no .venv-gpu with NVIDIA's library: see what scripts/setup says"
)


@pytest.fixture(scope="module")
def attesting(fake_vllm: str, simulator: Simulator) -> Iterator[Proxy]:
    """A proxy in earnest: its keys come from the (simulated) KMS."""
    with running_proxy(fake_vllm, DEV="0", **simulator.settings) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def chat(attesting: Proxy) -> SignedChat:
    return have_chat(attesting)


@pytest.fixture
def front(browser: Browser, attesting: Proxy) -> Iterator[FrontPage]:
    with opened(browser, attesting.side_url) as shown:
        yield shown


def with_a_gpu(report: Any) -> None:
    """Give a report the evidence that a GPU would give, as far as a browser can tell."""
    payload = json.loads(report["nvidia_payload"])
    for each in payload["evidence_list"]:
        evidence = base64.b64decode(each["evidence"])
        nonce = bytes.fromhex(payload["nonce"])
        each["evidence"] = base64.b64encode(evidence[:4] + nonce + evidence[36:]).decode()
    report["nvidia_payload"] = json.dumps(payload)


@needs_gpu_library
@pytest.mark.parametrize(("side", "stream"), [(True, False), (False, True)], ids=["side port", "proxied port"])
def test_valid_chat_passes_the_checks_and_only_its_id_leaves_the_browser(
    browser: Browser, attesting: Proxy, side: bool, stream: bool
) -> None:
    chat = have_chat(attesting, stream=stream)
    with opened(browser, attesting.side_url if side else attesting.url) as front:
        front.have_it_lied_to(REPORTS, with_a_gpu)
        assert front.check_attestation().startswith("✓ What a browser can check holds.")
        assert front.failed("attestation") == set()
        guest = {name.removeprefix("ecdsa "): mark for name, (mark, _) in front.checks("attestation").items()}
        assert {guest[name] for name in ("RTMR0", "RTMR1", "RTMR2", "RTMR3", "boot log", "compose hash")} == {"holds"}
        assert (guest["key provider"], guest["MRCONFIGID"]) == ("holds", "holds")
        loaded = len(front.requests)
        assert front.check_answer(chat.id, chat.request, chat.response).startswith("✓ They match")
        assert {name: mark for name, (mark, _) in front.checks("exchange").items()} == {
            "signed text": "holds",
            "request hash": "holds",
            "response hash": "holds",
            "ed25519 signature": "holds",
            "ecdsa signer": "holds",
            "ecdsa signature": "not made",
            "keys attested": "holds",
        }
        asked = sorted(request.url.partition("/v1/")[2] for request in front.requests[loaded:])
        assert asked == [f"signature/{chat.id}?signing_algo={algo}" for algo in ("ecdsa", "ed25519")]
        for request in front.requests:
            headers = request.all_headers()
            assert (request.method, request.post_data, headers.get("referer")) == ("GET", None, None)
            assert "cookie" not in headers
            token = {name for name, value in headers.items() if TOKEN in value}
            assert token == ({"authorization"} if "/v1/" in request.url else set())
            assert TOKEN not in request.url
            assert QUESTION not in f"{request.url}{headers}"
        assert front.page.context.storage_state(indexed_db=True) == {"cookies": [], "origins": []}
        assert front.page.evaluate("caches.keys()") == []


def test_wrong_bodies_id_or_signature_fail_the_check_with_a_reason(
    front: FrontPage, attesting: Proxy, chat: SignedChat
) -> None:
    asked, answered = chat.request, chat.response
    front.check_answer(chat.id, asked.replace(b"nobody", b"anybody"), answered)
    assert front.failed("exchange") == {"request hash"}
    detail = front.checks("exchange")["request hash"][1]
    assert re.fullmatch(rf"SHA-256 of these {len(asked) + 1} bytes is \w{{64}}; signed was \w{{64}}", detail)
    front.check_answer(chat.id, asked, answered[:-1] + b" }")
    assert front.failed("exchange") == {"response hash"}
    front.check_answer(have_chat(attesting).id, asked, answered)  # a chat just like it, with an id of its own
    assert front.failed("exchange") == {"response hash"}
    unknown = front.check_answer("chatcmpl-unknown", asked, answered)
    assert unknown.startswith("✗ This cannot be checked: No signature under this id")
    assert front.checks("exchange") == {}
    assert front.check_answer("..", asked, answered).startswith(
        "✗ This cannot be checked: this id cannot be part of an address"
    )
    front.have_it_lied_to(SIGNATURES, lambda told: told.update(signature="00" * 64))
    lied = front.check_answer(chat.id, asked, answered)
    assert lied == "✗ This does not hold: ed25519 signature, ecdsa signature."
    front.page.get_by_label("Response body, pasted").fill("and a text")
    assert front.page.locator("#exchange-verdict").inner_text() == "", "what is shown is about what is entered"
    front.page.get_by_role("button", name="Check this answer").click()
    assert "give the one or the other" in front.verdict("exchange")


def test_server_text_is_shown_truncated_with_bidi_overrides_replaced(front: FrontPage, chat: SignedChat) -> None:
    front.have_it_lied_to(SIGNATURES, lambda told: told.update(signing_address="\u202e<b>" + "A" * 300_000))
    front.check_answer(chat.id, chat.request, chat.response)
    detail = front.checks("exchange")["ed25519 signature"][1]
    assert detail.startswith("signed by \N{REPLACEMENT CHARACTER}<b>AAA")
    assert len(detail) == 401


def test_editing_the_chat_id_during_a_check_cancels_the_check(front: FrontPage, chat: SignedChat) -> None:
    front.page.route(f"**{SIGNATURES}", lambda route: None)  # it never answers
    front.page.get_by_label("Chat id").fill(chat.id)
    with front.page.expect_request(f"**{SIGNATURES}"):
        front.page.get_by_role("button", name="Check this answer").click()
    assert front.page.locator("#exchange-verdict").inner_text() == "Checking…"
    with front.page.expect_event("requestfailed"):
        front.page.get_by_label("Chat id").fill("chatcmpl-other")
    assert front.page.locator("#exchange-verdict").inner_text() == ""
    assert front.page.locator("#exchange-more").is_hidden()


def test_missing_bodies_or_token_are_named_in_the_verdict(front: FrontPage, chat: SignedChat) -> None:
    assert front.check_answer(chat.id, None, None).startswith("\N{EN DASH} The signature is true. Whether it is about")
    assert "the request and the response" in front.verdict("exchange")
    for token, told in (
        ("wrong \N{SNOWMAN}", "✗ The token was rejected. Enter the one that you use the model with, above"),
        ("", "✗ This cannot be checked: the server requires an access token: enter it above"),
    ):
        front.page.get_by_label("Access token").fill(token)
        for button, section in (("Check this", "exchange"), ("Fetch", "attestation")):
            front.page.get_by_role("button", name=button).click()
            assert front.verdict(section) == told  # type: ignore[arg-type]


def test_unsigned_exchange_is_shown_with_its_reason_as_plain_text(front: FrontPage, chat: SignedChat) -> None:
    reason = "<b>cut short</b> by \N{RIGHT-TO-LEFT OVERRIDE}the client " + "A" * 1000
    error = {"message": reason, "type": "not_found", "param": None, "code": "not_signed"}
    front.page.route(f"**{SIGNATURES}", lambda route: route.fulfill(status=404, json={"error": error}))
    shown = front.check_answer(chat.id, chat.request, chat.response)
    assert shown.startswith("✗ Not signed: <b>cut short</b> by \N{REPLACEMENT CHARACTER}the client AAA")
    assert len(shown) == 401
    assert front.page.locator("#exchange-verdict b").count() == 0
    assert front.summary.startswith("✗ The answer could not be checked.")
    error["message"] = None
    assert "the server does not say why" in front.check_answer(chat.id, chat.request, chat.response)


def test_summary_line_states_the_result_of_every_check(front: FrontPage, chat: SignedChat) -> None:
    assert front.summary == "Nothing has been checked yet."
    front.check_answer(chat.id, chat.request, chat.response)
    signed = "✓ The answer is the one that was signed, for the request that was signed."
    assert front.summary == f"{signed} The attestation has not been checked yet."
    front.have_it_lied_to(REPORTS, lambda report: report.update(request_nonce="00" * 32))
    front.check_attestation()
    assert front.summary == f"{signed} ✗ The attestation does not hold."
    front.check_answer(chat.id, chat.request, b"{}")
    assert front.summary.startswith("✗ The answer or its signature is not valid.")
    front.page.get_by_label("Chat id").fill("another")
    assert front.summary == "No answer has been checked yet. ✗ The attestation does not hold."


def test_development_run_shows_a_matching_response_as_matching(
    browser: Browser, fake_vllm: str, simulator: Simulator
) -> None:
    with running_proxy(fake_vllm, DEV="1", **simulator.settings) as proxy:
        chat = have_chat(proxy)
        with opened(browser, proxy.url) as front:
            assert front.check_attestation().startswith("\N{EN DASH} Development run: the hardware is simulated")
            assert front.checks("attestation")["ecdsa keys"][0] == "not made"
            shown = front.check_answer(chat.id, chat.request, chat.response)
            assert shown.startswith("✓ They match: exactly this answer was given to exactly this request. Who has")
            assert "its hardware is simulated" in shown
            assert front.failed("exchange") == set()
            assert "fails" not in (front.page.locator("#exchange-verdict").get_attribute("class") or "")
            assert front.summary.startswith("✓ The answer is the one that was signed")
            assert "hardware is simulated" in front.summary
            assert front.check_answer(chat.id, chat.request, b"{}") == "✗ This does not hold: response hash."


def test_front_page_without_ed25519_or_https_says_which_checks_it_cannot_make(
    browser: Browser, attesting: Proxy, chat: SignedChat
) -> None:
    with opened(browser, attesting.side_url, NO_ED25519) as front:
        assert front.check_answer(chat.id, chat.request, chat.response).startswith("\N{EN DASH} Not shown")
        assert "this browser has no Ed25519" in front.checks("exchange")["ed25519 signature"][1]
        expect(front.page.locator("#insecure")).to_be_hidden()
        # The same page, from elsewhere, without TLS.
        front.page.route("http://proxy.example/**", lambda route: from_the_proxy(route, attesting))
        front.page.goto("http://proxy.example/")
        expect(front.page.locator("#insecure")).to_contain_text("came over https")
        assert front.check_answer(chat.id, chat.request, chat.response).startswith("\N{EN DASH} Not shown")
        assert "only over https" in front.checks("exchange")["request hash"][1]
        del front.requests[:]
        front.page.goto(attesting.side_url)


def from_the_proxy(route: Route, proxy: Proxy) -> None:
    route.fulfill(response=route.fetch(url=route.request.url.replace("http://proxy.example", proxy.side_url)))


@needs_gpu_library
def test_replayed_report_and_canned_gpu_evidence_fail_the_nonce_checks(front: FrontPage) -> None:
    first = front.check_attestation()
    assert first == "✗ This does not hold: ecdsa GPU nonce, ed25519 GPU nonce."
    assert "canned evidence, which no GPU has made" in front.checks("attestation")["ecdsa GPU nonce"][1]
    kept: dict[str, Any] = {}

    def replayed(report: Any) -> None:
        report.update(kept.setdefault(report["signing_algo"], dict(report)))

    front.have_it_lied_to(REPORTS, replayed)
    assert front.check_attestation() == first
    assert front.check_attestation() == (
        "✗ This does not hold: ecdsa nonce, ecdsa GPU nonce, ed25519 nonce, ed25519 GPU nonce."
    )


@needs_gpu_library
def test_event_log_with_a_renamed_event_fails_rtmr3_and_its_claims(front: FrontPage) -> None:
    def with_another_name(report: Any) -> None:
        with_a_gpu(report)
        [event] = [each for each in report["event_log"] if each["event"] == "key-provider"]
        event["event"] = "key_provider"

    front.have_it_lied_to(REPORTS, with_another_name)
    found = front.check_attestation()
    claims = ("RTMR3", "boot log", "compose hash", "key provider", "MRCONFIGID")
    assert (
        found == f"✗ This does not hold: {', '.join(f'{algo} {c}' for algo in ('ecdsa', 'ed25519') for c in claims)}."
    )
    assert "events in the log give" in front.checks("attestation")["ecdsa RTMR3"][1]


@needs_gpu_library
def test_tee_verify_accepts_the_front_pages_downloads_and_commands(
    front: FrontPage, chat: SignedChat, simulator: Simulator, tmp_path: Path
) -> None:
    front.check_attestation()
    front.check_answer(chat.id, chat.request, chat.response)
    for link in front.page.locator("a[download]").all():
        with front.page.expect_download() as download:
            link.click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
    (tmp_path / "request.json").write_bytes(chat.request)
    (tmp_path / "response.json").write_bytes(chat.response)
    reports, chat_command, signatures = (shlex.split(text) for text in front.page.locator("pre").all_inner_texts()[:3])
    trust = [
        *("--gpu", "canned"),
        *("--dev-root", str(simulator.root)),
        *("--collateral", str(simulator.collateral)),
    ]
    assert reports[-1] == "--nvidia", "the canned evidence is not for NVIDIA to judge"
    assert chat_command[:4] == ["TOKEN=YOUR_TOKEN", "tee-verify", "--url", "https://HOST"]
    for command in ([*reports[:-1], *trust], signatures):
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=clean_env(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=limit(30),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "✓" in done.stdout


@needs_gpu_library
def test_front_page_is_usable_with_the_keyboard_alone(front: FrontPage, chat: SignedChat) -> None:
    keyboard = front.page.keyboard

    def tab_to(role: str, name: str) -> None:
        wanted = front.page.get_by_role(role, name=name).or_(front.page.get_by_label(name, exact=True))  # type: ignore[arg-type]
        for _ in range(20):
            keyboard.press("Tab")
            if wanted.evaluate("element => element === document.activeElement"):
                outline = wanted.evaluate("element => getComputedStyle(element).outline")
                assert "solid 3px" in outline, "whoever has no mouse must see where she is"
                return
        raise AssertionError(f"{name} is never reached")

    tab_to("textbox", "Access token")
    keyboard.type(TOKEN)
    tab_to("button", "Fetch and check the attestation")
    keyboard.press("Enter")
    front.verdict("attestation")
    expect(front.page.get_by_role("button", name="Fetch and check")).to_be_focused()
    tab_to("link", "report-ecdsa.json")
    tab_to("textbox", "Chat id")
    keyboard.type(chat.receipt)
    tab_to("textbox", "Request body, pasted")
    keyboard.insert_text(chat.request.decode())
    tab_to("textbox", "Response body, pasted")
    keyboard.insert_text(chat.response.decode())
    tab_to("button", "Check this answer")
    keyboard.press("Space")
    assert front.verdict("exchange").startswith("✓ They match")
    assert front.page.get_by_role("status").all_inner_texts()[1].startswith("✓ They match")


def test_front_page_is_accessible_in_light_and_dark_narrow_and_wide(front: FrontPage, chat: SignedChat) -> None:
    page = front.page
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    front.check_attestation()
    front.check_answer(chat.id, chat.request, b"{}")
    schemes: dict[Literal["light", "dark"], int] = {"light": 320, "dark": 1200}
    for scheme, width in schemes.items():
        page.set_viewport_size({"width": width, "height": 640})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) > 384) == (scheme == "light")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_content_security_policy_blocks_fetch_html_injection_and_forms(browser: Browser, attesting: Proxy) -> None:
    with opened(browser, attesting.side_url) as front:
        with pytest.raises(Error, match="Failed to fetch"):
            front.page.evaluate("url => fetch(url)", f"{attesting.url}/health")
        with pytest.raises(Error, match="TrustedHTML"):
            front.page.evaluate("document.body.innerHTML = '<p>'")
        with front.page.expect_console_message(lambda message: "form-action 'none'" in message.text):
            front.page.evaluate("document.getElementById('chat-id').form.submit()")
        assert len(front.complaints) >= 3
        del front.complaints[:]
