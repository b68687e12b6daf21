#!/usr/bin/env python3
"""Puts load on a running proxy, times its answers, and checks the signatures of every one of them.

So many clients at once have one chat after the other. The moment an answer's last byte is there, its signatures are
asked for, and they must be true: both algorithms, over the very bytes that were sent and received, always by the same
keys. (Whose keys these are is for tee-verify to check.) Ctrl-C ends it early and gives the figures of what was done.
Times hold for this client, too: give it a core of its own, and look whether `top` says that it has one.
"""

import argparse
import asyncio
import os
import signal
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from addons.lifecycle.open_files import allow_open_files
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.http_client import Origin
from attest_web.verify.primitives.untrusted_json import as_object, items, parse_object, text
from scripts.load_testing.chat import ChatError, Question, UntrueError, have_chat
from scripts.load_testing.client import Connection, TransportError
from scripts.load_testing.progress import Progress
from scripts.load_testing.stats import Stats

EPILOG = """\
Exit status: 0 when every request was answered and every answer had both signatures, all of them true; 1 when not; 2
for wrong usage.

environment:
  TOKEN      the proxy's bearer token, which other users of this machine cannot see there as they can on a command line
"""

PAUSE = 0.1
"""Seconds that a client waits after a failure, so that a proxy that rejects everything is not flooded."""


@dataclass(frozen=True)
class Target:
    """The proxy under load, and the options of its clients.

    Attributes:
        proxy: The proxy's address.
        signatures: Where to fetch signatures.
        token: Bearer token.
        tls: How to check certificates.
        timeout: Seconds that a request may take.
    """

    proxy: Origin
    signatures: Origin
    token: str
    tls: ssl.SSLContext
    timeout: float

    def connections(self) -> tuple[Connection, Connection]:
        """A connection for chats and one for signatures, which may be the same."""
        proxy = Connection(self.proxy, self.token, self.tls, self.timeout)
        if self.signatures == self.proxy:
            return proxy, proxy
        return proxy, Connection(self.signatures, self.token, self.tls, self.timeout)


async def client(target: Target, question: Question, stats: Stats, until: float) -> None:
    """Send chats, one after the other, until the deadline."""
    proxy, signatures = target.connections()
    try:
        while time.perf_counter() < until:
            stats.under_way += 1
            try:
                stats.count(await have_chat(question, proxy, signatures))
                continue
            except UntrueError as error:
                stats.count_untrue(error)
            except (ChatError, TransportError) as error:
                stats.count_failed(str(error))
            finally:
                stats.under_way -= 1
                if signatures is not proxy:
                    signatures.close()  # the side port allows fewer connections than there may be clients
            await asyncio.sleep(PAUSE)
    finally:
        proxy.close()
        signatures.close()


async def put_load(target: Target, question: Question, concurrency: int, duration: float) -> tuple[Stats, bool]:
    """Run the clients; return their statistics, and whether the run was interrupted."""
    stats = Stats()
    until = stats.started + duration
    progress = asyncio.create_task(Progress(stats, duration, sys.stderr).tell())
    clients = asyncio.gather(*(client(target, question, stats, until) for _ in range(concurrency)))
    loop = asyncio.get_running_loop()
    for how in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(how, clients.cancel)
    interrupted = False
    try:
        await clients
    except asyncio.CancelledError:
        interrupted = True
    stats.ended = time.perf_counter()
    progress.cancel()
    with suppress(asyncio.CancelledError):
        await progress
    return stats, interrupted


async def first_model(target: Target) -> str:
    """The first model that the proxy lists.

    Raises:
        FailedError: There is no model, or no list.
    """
    proxy, _ = target.connections()
    try:
        answer = await proxy.ask("GET", "/v1/models")
    except TransportError as error:
        raise FailedError(f"{target.proxy}: {error}") from None
    finally:
        proxy.close()
    if answer.status != 200:
        raise FailedError(f"{target.proxy}/v1/models answered {answer.status}; name the model with --model")
    models = items(parse_object(answer.body, "the list of models"), "data", "the list of models")
    if not models:
        raise FailedError("the proxy serves no model; name one with --model")
    return text(as_object(models[0], "the first model"), "id", "the first model")


async def run(options: argparse.Namespace) -> int:
    """Run the load test; return the exit status."""
    proxy: Origin = options.url
    signatures = proxy if options.side_port is None else replace(proxy, tls=False, port=options.side_port)
    target = Target(proxy, signatures, options.token, options.cacert, options.timeout)
    try:
        model = options.model or await first_model(target)
    except FailedError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    question = Question(model, options.stream, options.max_tokens, options.message)
    stats, interrupted = await put_load(target, question, options.concurrency, options.duration)
    if options.json:
        about = {"url": str(proxy), "model": model, "stream": options.stream, "concurrency": options.concurrency}
        print(stats.as_json(**about, interrupted=interrupted))
    else:
        print(stats.as_text())
    return 0 if stats.holds else 1


def main() -> None:
    """Put load on a proxy and print the statistics."""
    parser = argparse.ArgumentParser(
        prog="loadtest", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", type=_origin, default="http://localhost:8000", help="where the proxy is [%(default)s]")
    parser.add_argument("--side-port", type=int, metavar="PORT", help="ask for signatures there [as for all else]")
    parser.add_argument("--token", help="the proxy's bearer token; better in TOKEN")
    parser.add_argument("--model", help="which model to ask [the first one that the proxy lists]")
    parser.add_argument("--concurrency", type=_count, default=8, metavar="N", help="clients at once [%(default)s]")
    parser.add_argument(
        "--duration", type=_seconds, default=30.0, metavar="SECONDS", help="for which chats are begun [%(default)g]"
    )
    parser.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="have answers streamed, or not [--stream]",
    )
    parser.add_argument("--max-tokens", type=_count, default=64, metavar="N", help="of an answer [%(default)s]")
    parser.add_argument("--message", default="Count from one to fifty, in words.", help="what to say to the model")
    parser.add_argument(
        "--timeout", type=_seconds, default=300.0, metavar="SECONDS", help="for each request as a whole [%(default)g]"
    )
    cacert = "certificates to trust the proxy's TLS by, in PEM [the system's]"
    parser.add_argument("--cacert", type=_trusting, default="", metavar="FILE", help=cacert)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    options.token = options.token or os.environ.get("TOKEN", "").partition(",")[0].strip()
    if not (options.token and options.token.isascii() and options.token.isprintable() and " " not in options.token):
        parser.error("give the proxy's token in TOKEN or with --token")
    if options.side_port is not None and not 1 <= options.side_port <= 65535:
        parser.error("--side-port takes a number from 1 to 65535")
    allow_open_files(2 * options.concurrency + 64)
    try:
        sys.exit(asyncio.run(run(options)))
    except KeyboardInterrupt:  # before there were any statistics
        sys.exit(130)


def _origin(url: str) -> Origin:
    try:
        return Origin.parse(url.removesuffix("/").removesuffix("/v1"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _trusting(cacert: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cacert or None)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{cacert}: {error.strerror or 'not certificates in PEM'}") from None


def _count(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 100_000:
        raise argparse.ArgumentTypeError("takes a number from 1 to 100000")
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 7 * 86400:
        raise argparse.ArgumentTypeError("takes a number of seconds above 0, a week's at most")
    return seconds


if __name__ == "__main__":
    main()
