#!/usr/bin/env python3
"""Sends the proxy a great mix of requests, good and bad, and looks whether anything of them is left afterwards.

Chats, streams, uploads, lookups, refusals, clients that break off or are slow, an upstream that breaks off: against a
real mitmdump in front of the stand-in model. When all is quiet again, open sockets and files, asyncio tasks, flows and
memory must be back where they were after a warm-up. Exits with 1 where they are not, or where an answer was wrong.
With --program tee-signer, which loads no script to count tasks and flows, it is sockets, files, threads and memory.
"""

import argparse
import asyncio
import collections
import dataclasses
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scripts.process_stats import process_stats
from scripts.soak_testing.client import MODEL, TOKEN, Client, UnexpectedError
from scripts.soak_testing.scenarios import SCENARIOS, chat

ROOT = Path(__file__).resolve().parents[2]
MB = 2**20
TIMEOUT = 30.0
"""Seconds that one exchange, or a start, may take."""

_MORE_THREADS = 8
"""How many threads may have been added: pools are bounded, and filled as they are needed."""

_EVERY = 5.0
"""Seconds between two lines that tell how far it is."""


class Program:
    """A program that runs, and the last lines that it wrote."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: collections.deque[str] = collections.deque(maxlen=200)
        self.tracebacks = 0
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace"))
            self.tracebacks += b"Traceback" in line or b"has crashed" in line
            self._more.set()
        self._more.set()

    async def said(self, pattern: str) -> re.Match[str]:
        """Wait until it has written something."""
        async with asyncio.timeout(TIMEOUT):
            while (found := re.search(pattern, "".join(self.lines))) is None:
                if self._reading.done():
                    sys.exit(f"soak: a program did not start:\n{''.join(self.lines)}")
                self._more.clear()
                await self._more.wait()
        return found

    async def stop(self) -> None:
        """Stop it."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), TIMEOUT)
        await self._reading


@asynccontextmanager
async def running(*command: str | Path, **env: str) -> AsyncIterator[Program]:
    """A program, for as long as the context lasts."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | {"PYTHONUNBUFFERED": "1"} | env, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    program = Program(process)
    try:
        yield program
    finally:
        await program.stop()


class Soak:
    """Clients, and a proxy to send them to."""

    def __init__(self, port: int, side_port: int, clients: int, seed: int) -> None:
        self._ports = port, side_port
        self._clients = clients
        self._seed = seed
        self.done: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    async def run(self, total: int, name: str) -> None:
        """Have so many exchanges."""
        started = time.monotonic()
        numbers = iter(range(total))
        before = self.done.total()

        async def one(number: int) -> None:
            client = Client(*self._ports, self._seed + number)
            for _ in numbers:
                [scenario] = client.random.choices(list(SCENARIOS), list(SCENARIOS.values()))
                try:
                    async with asyncio.timeout(TIMEOUT):
                        await scenario(client)
                except (UnexpectedError, OSError, asyncio.IncompleteReadError, ValueError) as error:
                    what = str(error) if isinstance(error, UnexpectedError) else type(error).__name__
                    self.failures[f"{scenario.__name__}: {what}"] += 1
                    await client.reset()
                self.done[scenario.__name__] += 1
            await client.close()

        async def tell() -> None:
            while True:
                await asyncio.sleep(_EVERY)
                done, seconds = self.done.total() - before, time.monotonic() - started
                failed = f", {self.failures.total()} failed" if self.failures else ""
                say(f"{name}: {done} of {total}, {done / seconds:.0f}/s{failed}")

        telling = asyncio.create_task(tell())
        await asyncio.gather(*(one(number) for number in range(self._clients)))
        telling.cancel()
        say(f"{name}: {total} exchanges in {time.monotonic() - started:.0f} s")
        self._seed += self._clients

    async def have_store_forget(self) -> None:
        """Store one signature more: that is when those whose time is over are dropped."""
        client = Client(*self._ports, 0)
        await chat(client)
        await client.close()


def say(line: str) -> None:
    """Print the progress."""
    print(f"soak: {line}", file=sys.stderr, flush=True)


async def measured(pid: int, probe: Path | None) -> dict[str, int]:
    """The resources of the proxy's process, by name; without the probe, those that the kernel reports."""
    if probe is None:
        return dataclasses.asdict(process_stats(pid))
    reader, writer = await asyncio.open_unix_connection(probe)
    counted: dict[str, int] = json.loads(await reader.read())
    writer.close()
    return dataclasses.asdict(process_stats(pid)) | counted


async def settled(pid: int, probe: Path | None, seconds: float) -> dict[str, int]:
    """What lives in the proxy when it has been left alone for so long, and no less has come of it since."""
    await asyncio.sleep(seconds)
    best = await measured(pid, probe)
    for _ in range(20):
        await asyncio.sleep(0.25)
        now = await measured(pid, probe)
        if not any(now[name] < best[name] for name in now if name != "resident"):
            return now
        best = now
    return best


def left_over(before: dict[str, int], after: dict[str, int], allowed_growth: int) -> list[str]:
    """Print the table; return the names of what has become more."""
    print(f"| {'':11} | before | after |\n| {'-' * 11} | ---: | ---: |")
    allowed = {"resident": allowed_growth, "threads": _MORE_THREADS}
    more = [name for name, was in before.items() if after[name] > was + allowed.get(name, 0)]
    for name, was in before.items():
        label, scale = ("memory, MB", MB) if name == "resident" else (name, 1)
        print(f"| {label:11} | {was / scale:.5g} | {after[name] / scale:.5g} |{' <<<' if name in more else ''}")
    return more


async def soak(options: argparse.Namespace) -> int:
    """Run it all; return the exit status."""
    keep_alive, expiration = options.idle, max(1, int(options.idle))
    fake_vllm: list[str | Path] = [sys.executable, ROOT / "scripts/stand_in_vllm.py", "--model", MODEL, "--delay", "0"]
    settings = {"MODEL_NAME": MODEL, "TOKEN": TOKEN, "DEV": "1", "ATTEST_PORT": "0"}
    settings |= {"CHAT_CACHE_EXPIRATION": str(expiration)}
    settings |= {"RATE_LIMIT_PER_SECOND": "1000000", "RATE_LIMIT_BURST_SIZE": "1000000"}
    with tempfile.TemporaryDirectory() as scratch:
        probe = Path(scratch) / "probe.sock" if options.program == "mitmdump" else None
        async with running(*fake_vllm, "--keep-alive", str(keep_alive)) as upstream:
            url = (await upstream.said(r"http://\S+"))[0]
            command: list[str | Path] = [
                Path(sys.executable).parent / options.program,
                "--listen-host",
                "127.0.0.1",
            ]
            if probe is not None:
                scripts = ["-s", str(ROOT / "addons/tee_signer.py"), "-s", str(ROOT / "scripts/soak_testing/probe.py")]
                command += ["-p", "0", "--mode", f"reverse:{url}", *scripts]
                settings |= {"SOAK_PROBE": str(probe)}
            else:
                settings |= {"VLLM_BASE_URL": url, "LISTEN_PORT": "0"}
            async with running(*command, **settings) as proxy:
                side_port = int((await proxy.said(r"proof pages on side port (\d+)"))[1])
                port = int((await proxy.said(r"listening at 127\.0\.0\.1:(\d+)"))[1])
                pid = proxy.process.pid
                mix = Soak(port, side_port, options.clients, options.seed)

                async def state_after(name: str, total: int) -> dict[str, int]:
                    await mix.run(total, name)
                    await asyncio.sleep(expiration)
                    await mix.have_store_forget()
                    return await settled(pid, probe, keep_alive + 0.5)

                before = await state_after("warm-up", options.warm_up)
                after = await state_after("soak", options.requests)
            return report(mix, before, after, int(options.allowed_growth * MB), proxy)


def report(mix: Soak, before: dict[str, int], after: dict[str, int], allowed_growth: int, proxy: Program) -> int:
    """Print what came of it; return the exit status."""
    print(", ".join(f"{count} {name}" for name, count in mix.done.most_common()) + "\n")
    more = left_over(before, after, allowed_growth)
    for failure, count in mix.failures.most_common():
        print(f"failed: {count} times {failure}")
    if proxy.tracebacks:
        print(f"failed: {proxy.tracebacks} tracebacks in the proxy's log:\n{''.join(proxy.lines)}")
    if more:
        print(f"failed: more than before: {', '.join(more)}")
    return 1 if more or mix.failures or proxy.tracebacks else 0


def main() -> None:
    """Soak, print a table."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--program", choices=("mitmdump", "tee-signer"), default="mitmdump", help="(%(default)s)")
    parser.add_argument("--requests", type=int, default=20_000, help="exchanges that count (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=2_000, help="exchanges before them (%(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="how many clients at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the mix (%(default)s)")
    parser.add_argument(
        "--idle",
        type=float,
        default=5.0,
        help="seconds until the model server closes an idle connection and a signature expires (%(default)s)",
    )
    parser.add_argument(
        "--allowed-growth", type=float, default=8.0, help="by how many MB memory may have grown (%(default)s)"
    )
    sys.exit(asyncio.run(soak(parser.parse_args())))


if __name__ == "__main__":
    main()
