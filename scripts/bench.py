#!/usr/bin/env python3
"""Measures what the proxy costs, beside plain mitmdump and no proxy at all, in front of the stand-in model.

CPU is that of the proxy's process: it holds on a noisy machine. Times are medians at one client, one request at a time.
"""

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.process_figures import cpu_seconds

ROOT = Path(__file__).resolve().parent.parent
MODEL = "bench"
TOKEN = "bench-token"
EVENTS = 64


@dataclass(frozen=True)
class Row:
    """One proxy's figures; seconds, None where there is no process to measure."""

    name: str
    json_cpu: float | None
    sse_cpu: float | None
    first_token: float
    first_token_p95: float


@contextmanager
def running(command: list[str], ready: str, **env: str) -> Iterator[tuple[int, re.Match[str]]]:
    """A program, from when its output matches `ready`; gives its process id and the match."""
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if match := re.search(ready, said):
                break
        else:
            sys.exit(f"bench: {' '.join(command)} did not start:\n{said}")
        # What it says from now on must not fill the pipe.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield process.pid, match
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    drain.wait(10)


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def chat(self, *, stream: bool) -> float:
        """Have one chat; return the seconds until the first byte of the answer's body."""
        message = {"role": "user", "content": "How much does it cost to be trusted?"}
        body = json.dumps({"model": MODEL, "messages": [message], "stream": stream})
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        started = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        response = self._connection.getresponse()
        response.read(1)
        first = time.perf_counter() - started
        response.read()
        if response.status != 200:
            sys.exit(f"bench: the chat was answered with {response.status}")
        return first


def measure(name: str, port: int, pid: int | None, times: int) -> Row:
    """Measure one proxy, or none."""
    client = Client(port)

    def cpu_per_chat(*, stream: bool) -> float | None:
        for _ in range(times // 10 + 1):  # warm up
            client.chat(stream=stream)
        before = cpu_seconds(pid) if pid else 0
        for _ in range(times):
            client.chat(stream=stream)
        return (cpu_seconds(pid) - before) / times if pid else None

    json_cpu, sse_cpu = cpu_per_chat(stream=False), cpu_per_chat(stream=True)
    firsts = sorted(client.chat(stream=True) for _ in range(times))
    print(f"  {name}: done", file=sys.stderr)
    return Row(name, json_cpu, sse_cpu, statistics.median(firsts), firsts[int(len(firsts) * 0.95)])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=500, help="requests of each kind (%(default)s)")
    options = parser.parse_args()
    if options.times < 20:
        parser.error("--times must be 20 or more")
    stand_in = [sys.executable, str(ROOT / "scripts/stand_in_vllm.py"), "--model", MODEL]
    stand_in += ["--delay", "0", "--tokens", str(EVENTS - 3)]
    mitmdump = [str(Path(sys.executable).parent / "mitmdump"), "--listen-host", "127.0.0.1", "-p", "0"]
    listening = r"listening at 127\.0\.0\.1:(\d+)"
    settings: dict[str, Any] = {"MODEL_NAME": MODEL, "TOKEN": TOKEN, "DEV": "1", "ATTEST_PORT": "0"}
    settings["INSPECT_PLAINTEXT"] = "0"
    settings["RATE_LIMIT_PER_SECOND"] = "1000000"  # counted, as in earnest, and never reached
    rows = []
    with running(stand_in, r"http://127\.0\.0\.1:(\d+)") as (_, found):
        mode = ["--mode", f"reverse:{found[0]}"]
        rows.append(measure("no proxy", int(found[1]), None, options.times))
        plain = [*mitmdump, *mode, "--set", "stream_large_bodies=1"]
        with running(plain, listening) as (pid, match):
            rows.append(measure("mitmdump, streaming, no addon", int(match[1]), pid, options.times))
        signing = [*mitmdump, *mode, "-s", str(ROOT / "addons/tee_signer.py")]
        with running(signing, f"{listening}(?s:.*)side port", **settings) as (pid, match):
            rows.append(measure("mitmdump -s addons/tee_signer.py", int(match[1]), pid, options.times))
        launcher = [str(Path(sys.executable).parent / "tee-signer"), "--listen-host", "127.0.0.1"]
        settings |= {"VLLM_BASE_URL": found[0], "LISTEN_PORT": "0"}
        with running(launcher, f"{listening}(?s:.*)side port", **settings) as (pid, match):
            rows.append(measure("tee-signer", int(match[1]), pid, options.times))
    print_table(rows)


def print_table(rows: list[Row]) -> None:
    """Print the rows as a Markdown table, in milliseconds."""

    def ms(seconds: float | None) -> str:
        return "" if seconds is None else f"{seconds * 1000:.2f}"

    print(f"| proxy | CPU, JSON chat, ms | CPU, SSE of {EVENTS} events, ms | first token, ms | p95 | added, ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        added = ms(row.first_token - rows[0].first_token)
        cells = [row.name, ms(row.json_cpu), ms(row.sse_cpu), ms(row.first_token), ms(row.first_token_p95), added]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
