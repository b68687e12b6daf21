#!/usr/bin/env python3
"""Plays dstack's guest agent on a Unix socket, for development and tests.

Nothing that it makes is worth anything as proof. Keys come from a seed, not from a KMS; quotes are made up by this
process and verify under a root that it made up as well. They have the shape of real ones, so that the same code serves
development and production, and the same verifier checks both: it rejects these unless it is told to trust this root.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import socketserver
import stat
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from scripts.simulated_collateral import collateral
from scripts.simulated_guest import DEFAULT_APP_COMPOSE, RequestError, SimulatedGuest
from scripts.simulated_tdx import SimulatedPlatform

MAX_BODY = 64 * 1024
"""Bytes of a request at most; the client's are a few hundred."""

IDLE_TIMEOUT = 30.0
"""Seconds that a connection may say nothing."""


class Simulator(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The server.

    Attributes:
        guest: Whom it speaks for.
        delay: Seconds that every answer takes at least.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, guest: SimulatedGuest, delay: float = 0) -> None:
        """Listen at a path.

        Raises:
            OSError: The path cannot be listened at; `FileExistsError` where something is there that must stay.
        """
        self.guest = guest
        self.delay = delay
        self._path = path
        remove_stale_socket(path)
        # Keys are given to whoever can connect, so nobody else may, not even for a moment.
        umask = os.umask(0o177)
        try:
            super().__init__(str(path), Handler)
        finally:
            os.umask(umask)
        self._inode = path.stat().st_ino

    def server_close(self) -> None:
        """Stop listening and remove the socket, unless another is in its place by now."""
        super().server_close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Simulator
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT
    wbufsize = -1  # head and body of an answer leave together

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a call: JSON in, JSON out, the method's name for a path."""
        time.sleep(self.server.delay)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True  # where the next request would begin is not known
            self._send(411 if not length else 413, {"error": f"a Content-Length of at most {MAX_BODY} is required"})
            return
        body = self.rfile.read(int(length))
        try:
            self._send(200, self.server.guest.answer(self.path.removeprefix("/"), body))
        except RequestError as error:
            self._send(error.status, {"error": str(error)})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def remove_stale_socket(path: Path) -> None:
    """Make room for a socket where one was left behind by a server that is no more.

    Raises:
        FileExistsError: Somebody listens there, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there and is no socket. Give --socket another path or remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(f"{path} is in use by a running server. Stop that one or give --socket another path")


def main() -> None:
    """Serve until stopped; say where on the first line of standard output."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    platform = SimulatedPlatform()
    guest = SimulatedGuest(platform, options.seed, options.app_compose, debug=options.debug_td)
    try:
        server = Simulator(options.socket, guest, options.delay)
    except OSError as error:
        sys.exit(f"dstack_simulator: {_reason(error, options.socket)}")
    try:
        if options.root:
            options.root.write_bytes(platform.pki.root.certificate.public_bytes(Encoding.PEM))
        if options.collateral:
            options.collateral.write_text(json.dumps(collateral(platform.pki)))
        print(f"listening at {options.socket}", flush=True)
        server.serve_forever()
    except OSError as error:
        sys.exit(f"dstack_simulator: {_reason(error, options.socket)}")
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="It says 'listening at PATH' once it does. Ctrl-C or SIGTERM stops it and removes the socket.",
    )
    parser.add_argument(
        "--socket", type=Path, required=True, metavar="PATH", help="Unix socket to listen at, mode 0600"
    )
    parser.add_argument("--root", type=Path, metavar="PATH", help="write the root CA's certificate there, PEM")
    parser.add_argument(
        "--collateral", type=Path, metavar="PATH", help="write what verifies its quotes there, JSON for dcap-qvl"
    )
    parser.add_argument(
        "--seed", type=_seed, metavar="HEX", help="32 bytes that the keys come from (random); gives the same keys again"
    )
    parser.add_argument("--debug-td", action="store_true", help="set the TD's DEBUG attribute, which verifiers refuse")
    parser.add_argument("--delay", type=_delay, default=0.0, metavar="SECONDS", help="time every answer takes (0)")
    parser.add_argument(
        "--app-compose", type=_app_compose, metavar="FILE", help="the app's compose document, JSON (one of its own)"
    )
    options = parser.parse_args()
    options.seed = options.seed or secrets.token_bytes(32)
    options.app_compose = options.app_compose or DEFAULT_APP_COMPOSE
    return options


def _seed(text: str) -> bytes:
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise argparse.ArgumentTypeError("it takes 32 bytes, 64 hex digits")
    return seed


def _delay(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("it takes seconds, 0 to 3600")
    return seconds


def _app_compose(path: str) -> str:
    try:
        # Bytes, because the hash is over the very text: reading it as text would change its line ends.
        text = Path(path).read_bytes().decode()
        if not isinstance(json.loads(text), dict):
            raise argparse.ArgumentTypeError(f"{path} must hold a JSON object")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{path} must hold a JSON object in UTF-8") from None
    return text


def _reason(error: OSError, path: Path) -> str:
    if isinstance(error, FileExistsError):
        return str(error)
    if error.filename:
        return f"{error.filename} cannot be written: {error.strerror}. Give another path"
    return f"cannot listen at {path}: {error.strerror or error}. Give --socket another path"


if __name__ == "__main__":
    main()
