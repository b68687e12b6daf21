"""Workers that a test controls, started by a real supervisor."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from addons.launcher.worker_ipc import Ready

ADDRESSES: Final = ("0xaddress", "key")

PYTHON: Final = sys.executable

_PROGRAM = """\
#!{python} -IS
import json, os, select, signal, socket, sys
channel = socket.socket(fileno=int(sys.argv[4]))
control = socket.socket(socket.AF_UNIX)
control.connect({control!r})
packet, files, _, _ = socket.recv_fds(channel, 1 << 20, 8)
def tell(**said):
    control.sendall(json.dumps(said).encode() + b"\\n")
signal.signal(signal.SIGTERM, lambda *_: tell(signal="SIGTERM"))
signal.signal(signal.SIGINT, lambda *_: tell(signal="SIGINT"))
tell(pid=os.getpid(), config=json.loads(packet), files=len(files), arguments=sys.argv[5:],
     token=os.environ.get("TOKEN"))
commands = control.makefile("r")
poll = [channel, control]
while True:
    for ready in select.select(poll, [], [])[0]:
        if ready is control:
            command = json.loads(commands.readline() or '{{"exit": 9}}')
            if "exit" in command:
                os._exit(command["exit"])
            channel.send(command["send"].encode("latin-1"))
        else:
            said = channel.recv(1 << 20)
            if not said:
                os._exit(9)
            tell(packet=said.decode("latin-1"))
"""


class FakeWorker:
    """One worker's process, which ends on demand, and when its supervisor or its test has ended.

    Attributes:
        pid: Its process.
        config: What it was sent first: `WorkerConfig`, as JSON.
        files: How many files came with that.
        arguments: Its command line.
        token: `TOKEN` of its environment.
    """

    def __init__(self, said: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid: int = said["pid"]
        self.config: dict[str, Any] = said["config"]
        self.files: int = said["files"]
        self.arguments: list[str] = said["arguments"]
        self.token: str | None = said["token"]
        self._reader = reader
        self._writer = writer

    def be_ready(self, addresses: tuple[str, ...] = ADDRESSES) -> None:
        """Report to the supervisor that it serves, with these keys."""
        self.send(Ready(addresses).packet())

    def send(self, packet: bytes) -> None:
        """Send the supervisor a packet."""
        self._command(send=packet.decode("latin-1"))

    def exit(self, status: int = 0) -> None:
        """End."""
        self._command(exit=status)

    def has_heard(self) -> bool:
        """Whether `received` would return at once."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]

    async def received(self) -> str | None:
        """The next packet or the name of the next signal that it receives; None if it has ended."""
        line = await self._reader.readline()
        if not line:
            return None
        said: dict[str, str] = json.loads(line)
        return said.get("packet") or said.get("signal")

    def _command(self, **command: object) -> None:
        self._writer.write(json.dumps(command).encode() + b"\n")


class FakeWorkers:
    """The workers that a supervisor has started, in order."""

    def __init__(self) -> None:
        self._started: asyncio.Queue[FakeWorker] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def next(self) -> FakeWorker:
        """The next started worker."""
        return await self._started.get()

    def all_taken(self) -> bool:
        """Whether `next` has returned every worker."""
        return self._started.empty()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Add a worker."""
        self._writers.append(writer)
        self._started.put_nowait(FakeWorker(json.loads(await reader.readline()), reader, writer))

    def close(self) -> None:
        """End the remaining workers."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def fake_workers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeWorkers]:
    """Make a supervisor start fake workers."""
    workers = FakeWorkers()
    control, program = directory / "control.sock", directory / "python"
    program.write_text(_PROGRAM.format(python=PYTHON, control=str(control)))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    async with await asyncio.start_unix_server(workers.take, control):
        try:
            yield workers
        finally:
            workers.close()
