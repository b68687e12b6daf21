"""The front page in a browser, and a record of all that the browser does."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

from attest_web.pages import front as front_page
from tests.e2e.support.processes import TOKEN, Proxy
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.support.limits import limit

REGISTERS = {f"RTMR{number}" for number in range(4)}
CLAIMS = {"boot log", "compose hash", "key provider"}
"""The checks of the boot log."""

CHECK_GUEST = """async (report) => {
  const { checkGuest } = await import("/proof-page/guest.js")
  const { parseQuote } = await import("/proof-page/quote.js")
  const { bytesOfHex } = await import("/proof-page/bytes.js")
  const checks = await checkGuest("ecdsa", report, parseQuote(bytesOfHex(report.intel_quote, "the quote")))
  return Object.fromEntries(checks.map(({ name, status, detail }) => [name.replace("ecdsa ", ""), [status, detail]]))
}"""

LISTS = ("all_attestations", "model_attestations")

QUESTION = "a question that nobody else may read"

Section = Literal["attestation", "exchange"]


@dataclass(frozen=True)
class SignedChat:
    """A chat that was had with a proxy."""

    request: bytes
    response: bytes
    id: str
    receipt: str


def have_chat(proxy: Proxy, **more: Any) -> SignedChat:
    """Chat with a proxy."""
    body = chat_body(QUESTION, **more)
    with RawClient(proxy.port) as client:
        client.send(chat_request(body))
        status, headers, answer = client.read_response()
    assert status == 200
    first = answer.removeprefix(b"data: ").partition(b"\n\n")[0] if more.get("stream") else answer
    return SignedChat(body, answer, json.loads(first)["id"], headers["x-receipt-id"])


@dataclass
class FrontPage:
    """The page, and its browser's requests and errors."""

    page: Page
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def check_attestation(self) -> str:
        """Press the button; return the verdict."""
        self.page.get_by_label("Access token").fill(TOKEN)
        self.page.get_by_role("button", name="Fetch and check the attestation").click()
        return self.verdict("attestation")

    def check_answer(self, chat_id: str, request: bytes | None, response: bytes | None) -> str:
        """Fill the form, with text for the request and a file for the response, and press the button."""
        self.page.get_by_label("Access token").fill(TOKEN)
        self.page.get_by_label("Chat id").fill(chat_id)
        self.page.get_by_label("Request body, pasted").fill((request or b"").decode())
        if response is not None:
            file: Any = {"name": "response", "mimeType": "application/json", "buffer": response}
            self.page.get_by_label("Response body, as a file").set_input_files(file)
        self.page.get_by_role("button", name="Check this answer").click()
        return self.verdict("exchange")

    def verdict(self, of: Section) -> str:
        """The verdict that the page shows after Checking…."""
        self.page.wait_for_function("id => /^[^C]/.test(document.getElementById(id).textContent)", arg=f"{of}-verdict")
        return self.page.locator(f"#{of}-verdict").inner_text()

    def checks(self, of: Section) -> dict[str, tuple[str, str]]:
        """The result of each check, by its name: holds, fails or not made, and the detail."""
        found = {}
        for line in self.page.locator(f"#{of}-checks li").all():
            mark, text = (line.locator("> span").nth(number).inner_text() for number in (0, 1))
            name, _, detail = text.partition(": ")
            found[name] = (mark[2:], detail)
        return found

    @property
    def summary(self) -> str:
        """The line at the top."""
        return self.page.locator("#summary").inner_text()

    def failed(self, of: Section) -> set[str]:
        """Names of the checks that fail."""
        return {name for name, (mark, _) in self.checks(of).items() if mark == "fails"}

    def have_it_lied_to(self, path: str, amend: Callable[[Any], None]) -> None:
        """Change responses on their way to the page; a report also in its lists.

        Args:
            path: Where the answers are, with * for what differs.
            amend: Changes an answer, parsed from JSON.
        """

        def answer(route: Route) -> None:
            response = route.fetch()
            told = response.json()
            amend(told)
            listed_anew(told)
            route.fulfill(response=response, json=told)

        self.page.route(f"**{path}", answer)


@contextmanager
def opened(browser: Browser, url: str, *scripts: str, **profile: Any) -> Iterator[FrontPage]:
    """The page in a fresh profile, for as long as the context lasts; it must send no other requests and log no errors.

    Args:
        browser: Where to open it.
        url: Where it is.
        scripts: What the browser runs before the page's own.
        profile: As `Browser.new_context` takes it.
    """
    with browser.new_context(**profile) as context:
        for script in scripts:
            context.add_init_script(script)
        front = FrontPage(context.new_page())

        def told(message: ConsoleMessage) -> None:
            refused_by_the_server = message.text.startswith("Failed to load resource: the server responded")
            if message.type in ("error", "warning") and not refused_by_the_server:
                front.complaints.append(message.text)  # what the policy forbids is told so, too

        def asked(request: Request) -> None:
            front.requests.append(request)

        context.on("request", asked)
        front.page.on("console", told)
        front.page.on("pageerror", lambda error: front.complaints.append(str(error)))
        front.page.set_default_timeout(1000 * limit(20))
        front.page.goto(url)
        yield front
        assert not front.complaints, front.complaints
        assert {request.url.split("?")[0][: len(url) + 1] for request in front.requests} == {f"{url}/"}


@contextmanager
def opened_modules(browser: Browser) -> Iterator[Page]:
    """An empty page with the front page's modules below `/proof-page/`, without a server."""
    files = Path(front_page.__file__).with_name("static")

    def serve(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name:
            route.fulfill(path=files / name, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    with browser.new_context() as context:
        context.route("http://localhost/**", serve)
        page = context.new_page()
        page.goto("http://localhost/")
        yield page


def check_guest(page: Page, report: dict[str, Any]) -> dict[str, list[str]]:
    """The modules' results for the guest of a report: status and detail, by the checks' names without an algorithm.

    Args:
        page: As `opened_modules` gives it.
        report: Its quote need not be signed.
    """
    found: dict[str, list[str]] = page.evaluate(CHECK_GUEST, report)
    assert set(found) == {*REGISTERS, *CLAIMS, "MRCONFIGID"}
    return found


def with_status(found: dict[str, list[str]], status: str) -> set[str]:
    """Names of the checks of a guest with a status: holds, fails or not made."""
    return {name for name, (each, _) in found.items() if each == status}


def marks(checks: list[dict[str, str]], status: str) -> set[str]:
    """Names of the checks with a status, of a list of checks as the modules give it."""
    return {check["name"] for check in checks if check["status"] == status}


def listed_anew(report: dict[str, Any]) -> None:
    """Copy the changed top level of a report into its lists, if it has lists."""
    alone = {name: value for name, value in report.items() if name not in LISTS}
    report.update({name: [alone] for name in LISTS if name in report})


def flipped(digits: str, at: int) -> str:
    """Hex digits with one bit changed."""
    return f"{digits[:at]}{int(digits[at], 16) ^ 1:x}{digits[at + 1 :]}"
