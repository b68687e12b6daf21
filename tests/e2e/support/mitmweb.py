"""A running mitmweb, and its API, used as its own page does."""

import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.support.processes import Proxy, running_proxy
from tests.support.limits import Deadline, limit

PASSWORD = "pw"


class Mitmweb:
    """A running mitmweb."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    @property
    def page(self) -> str:
        """The address for a browser."""
        return f"{self.url}/?token={PASSWORD}"

    def ask(self, path: str, data: Any = None, method: str | None = None) -> tuple[int, bytes]:
        """Send a request to the API; return status and body."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {PASSWORD}"})
        if data is not None:
            request.data = json.dumps(data).encode()
            request.add_header("Content-Type", "application/json")
        if data is not None or method is not None:
            request.method = method or "POST"
            request.add_header("Cookie", "_mitmproxy_xsrf=abcd")
            request.add_header("X-XSRFToken", "abcd")
        try:
            with urllib.request.urlopen(request, timeout=limit()) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def flows(self) -> list[dict[str, Any]]:
        """The flows that are listed."""
        found: list[dict[str, Any]] = json.loads(self.ask("/flows")[1])
        return found

    def wait_for(self, there: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
        """Wait until a condition holds for the flows; return them."""
        deadline = Deadline()
        while not there(flows := self.flows()):
            assert deadline.left > 0, flows
            time.sleep(0.02)  # mitmweb tells of changes over a WebSocket only
        return flows

    def content(self, flow: dict[str, Any], message: str, view: str = "auto") -> dict[str, str]:
        """The text that a content view shows for a message."""
        status, body = self.ask(f"/flows/{flow['id']}/{message}/content/{urllib.parse.quote(view)}.json")
        assert status == 200, body
        shown: dict[str, str] = json.loads(body)
        return shown

    def command(self, name: str, *arguments: str) -> Any:
        """Run a command as the command bar does; return its result, or the error's text."""
        told = json.loads(self.ask(f"/commands/{name}", {"arguments": arguments})[1])
        return told["value"] if "value" in told else told["error"]


@contextmanager
def running_mitmweb(upstream: str, **settings: str) -> Iterator[tuple[Proxy, Mitmweb]]:
    """A mitmweb with the addon in it, for as long as the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    web = ["--no-web-open-browser", "--set", f"web_port={port}", "--set", f"web_password={PASSWORD}"]
    with running_proxy(upstream, *web, program="mitmweb", **settings) as proxy:
        proxy.process.wait_for("Web server listening")
        yield proxy, Mitmweb(port)
