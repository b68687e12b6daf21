"""A page in a real browser has a chat with the proxy, from another origin."""

import http.server
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.support.chromium import OPTIONS
from tests.e2e.support.processes import MODEL, TOKEN, Process, Proxy, clean_env, running_proxy
from tests.support.limits import limit
from tests.support.tools import CHROMIUM, needs

PAGE = """<!doctype html><script>
const {proxy, side, token, model} = SETTINGS
async function ask(url, token, body) {
  const headers = {"Authorization": "Bearer " + token, "X-Request-Id": "of-a-page"}
  if (body) headers["Content-Type"] = "application/json"
  try {
    const answer = await fetch(url, {method: body ? "POST" : "GET", headers, body})
    return {status: answer.status, receipt: answer.headers.get("x-receipt-id"), text: await answer.text()}
  } catch (error) {
    return {status: 0, text: String(error)}
  }
}
async function run() {
  const body = JSON.stringify({model, stream: true, messages: [{role: "user", content: "Say hello"}]})
  const chat = await ask(proxy + "/v1/chat/completions", token, body)
  const signatures = []
  for (const port of [proxy, side]) signatures.push(await ask(port + "/v1/signature/" + chat.receipt, token))
  const refused = await ask(proxy + "/v1/chat/completions", "wrong", body)
  await fetch("/told", {method: "POST", body: JSON.stringify({chat, signatures, refused})})
}
run()
</script>"""


@contextmanager
def page_of(settings: dict[str, str]) -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """A server of the page, and what the page tells it."""
    told: queue.Queue[Any] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(PAGE.replace("SETTINGS", json.dumps(settings)).encode())

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in http.server
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join(limit(30))


def browse(proxy: Proxy, profile: Path) -> Any:
    """What the page tells of its chat with the proxy."""
    with page_of({"proxy": proxy.url, "side": proxy.side_url, "token": TOKEN, "model": MODEL}) as (origin, told):
        options = ["--headless=new", *OPTIONS, "--disable-background-networking", "--disable-component-update"]
        options.append(f"--user-data-dir={profile}")
        browser = Process([CHROMIUM.require(), *options, origin], clean_env())
        try:
            return told.get(timeout=limit(30))
        finally:
            browser.stop()


pytestmark = needs(CHROMIUM)


def test_cross_origin_page_can_chat_and_fetch_the_signature(proxy: Proxy, tmp_path: Path) -> None:
    told = browse(proxy, tmp_path)
    assert told["chat"]["status"] == 200, told
    assert told["chat"]["text"].endswith("data: [DONE]\n\n")
    assert told["chat"]["receipt"].startswith("rcpt-")
    for signature in told["signatures"]:
        assert signature["status"] == 200, told
        assert json.loads(signature["text"])["signing_algo"] == "ecdsa"
    assert told["refused"]["status"] == 401, told
    assert json.loads(told["refused"]["text"])["error"]["type"] == "unauthorized"


def test_page_of_a_disallowed_origin_can_read_no_response(fake_vllm: str, tmp_path: Path) -> None:
    with running_proxy(fake_vllm, CORS_ALLOW_ORIGINS="https://chat.example") as strict:
        told = browse(strict, tmp_path)
    assert [answer["status"] for answer in (told["chat"], told["refused"], *told["signatures"])] == [0] * 4
