"""What ops see in `mitmproxy`, the console, through a terminal of its own."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.support.processes import BIN, MODEL, SCRIPT, START_TIMEOUT, TOKEN, clean_env
from tests.e2e.support.raw_client import RawClient, chat_body, chat_request
from tests.support.limits import Deadline

PROMPT = "XPROMPTX"


class Terminal:
    """A terminal with a program in it, and what that has drawn."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._drawn = ""
        self.all_drawn = ""

    def wait_for(self, text: str) -> None:
        """Wait until the program has drawn a text, since it was last typed at."""
        deadline = Deadline(START_TIMEOUT)
        while text not in self._drawn:
            left = deadline.left
            assert left > 0, f"{text!r} never came in:\n{self._drawn}"
            if select.select([self._fd], [], [], left)[0]:
                drawn = os.read(self._fd, 65536).decode("utf-8", "replace")
                self._drawn = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][0-9A-B])|[\x0e\x0f]", "", self._drawn + drawn)
                self.all_drawn += drawn

    def type(self, keys: str) -> None:
        """Press keys."""
        self._drawn = ""
        os.write(self._fd, keys.encode())


@contextmanager
def running_console(upstream: str, port: int) -> Iterator[Terminal]:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    settings = {"MODEL_NAME": MODEL, "TOKEN": TOKEN, "DEV": "1", "ATTEST_PORT": "0", "INSPECT_PLAINTEXT": "0"}
    command: list[str | Path] = [BIN / "mitmproxy", "-s", SCRIPT, "--mode", f"reverse:{upstream}"]
    process = subprocess.Popen(
        [*command, "--listen-host", "127.0.0.1", "-p", str(port)],
        stdin=its,
        stdout=its,
        stderr=its,
        env=clean_env(TERM="xterm-256color", LANG="C.UTF-8", **settings),
        start_new_session=True,
    )
    os.close(its)
    try:
        terminal = Terminal(ours)
        terminal.wait_for(f"127.0.0.1:{port}")
        yield terminal
    finally:
        process.terminate()
        try:
            assert process.wait(START_TIMEOUT) == 0
        finally:
            process.kill()
            os.close(ours)


def test_the_console_shows_marks_and_proofs_and_takes_commands(fake_vllm: str, free_ports: list[int]) -> None:
    with running_console(fake_vllm, free_ports[0]) as terminal:
        with RawClient(free_ports[0]) as client:
            client.send(chat_request(chat_body(PROMPT)))
            assert client.read_response()[0] == 200
        terminal.wait_for("✅")
        terminal.type("\r")
        terminal.wait_for("TEE proof")
        terminal.wait_for("verified: all 8 checks that could be made hold")
        terminal.type(":tee.stats\r")
        terminal.wait_for("signed: 1")
        terminal.type("q:tee.verify @focus\r")
        terminal.wait_for("/v1/chat/completions: signed")
        assert PROMPT not in terminal.all_drawn
