#!/usr/bin/env python3
"""Measures what the proxy costs, beside plain mitmdump in front of the same stand-in model, in one run.

CPU is that of the proxy's processes, all of them and the load on one core: it holds on a noisy machine. Targets take
turns in rounds, and the median of the rounds counts. With --write-docs, the figures go to docs/performance.md and
docs/performance.svg.
"""

import argparse
import json
import os
import resource
import sys
from contextlib import ExitStack
from pathlib import Path

from scripts.benchmarks import measures as measure
from scripts.benchmarks.report import Results, goals, machine, table, write_docs
from scripts.benchmarks.targets import LAUNCHER, TARGETS, fake_vllm, running

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    """Measure and print a table."""
    options = _options()
    # On hyper-threads of one core, the CPU time of a proxy would depend on the load of the others.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results = Results(machine(), [target.name for target in options.targets])
    _measure_in_rounds(options, results)
    _measure_by_turns(options, results)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    print(table(results))
    print()
    print(goals(results))
    if options.write_docs:
        write_docs(results, DOCS)
        print(f"written: {DOCS}/performance.md, {DOCS}/performance.svg", file=sys.stderr)


def _measure_in_rounds(options: argparse.Namespace, results: Results) -> None:
    """Measure the compared figures: all targets run at once, and take turns."""
    with ExitStack() as stack:
        url, direct = stack.enter_context(fake_vllm(0, measure.EVENTS - 3))
        running_now = [(each, stack.enter_context(running(each, url))) for each in options.targets]
        for _, proxy in running_now:
            measure.warm_up(proxy)
        for number in range(options.rounds):
            _progress(f"round {number + 1} of {options.rounds}: chats")
            bare = measure.first_token(direct, options.times)
            for target, proxy in running_now:
                name, count = target.name, options.times
                results.add(name, "json_cpu", measure.cpu_per_chat(proxy, 3 * count, stream=False))
                results.add(name, "sse_cpu", measure.cpu_per_chat(proxy, count, stream=True))
                results.add(name, "added_latency", measure.first_token(proxy.port, count) - bare)
        for target, proxy in running_now:
            results.add(target.name, "memory", measure.memory(proxy))


def _measure_by_turns(options: argparse.Namespace, results: Results) -> None:
    """Measure the figures for which each target runs alone."""
    tokens = int((options.seconds + 6) / measure.GAP)
    with fake_vllm(measure.GAP, tokens) as (url, _):
        for number in range(options.rounds):
            for target in options.targets:
                _progress(f"round {number + 1} of {options.rounds}: gapped events, {target.name}")
                with running(target, url) as proxy:
                    spent = measure.cpu_per_gapped_event(proxy, options.seconds)
                results.add(target.name, "gapped_cpu", spent)
    with fake_vllm(0, 8) as (url, _):
        for target in options.targets:
            _progress(f"idle clients, {target.name}")
            with running(target, url) as proxy:
                results.add(target.name, "idle_client", measure.memory_per_idle_client(proxy, options.idle))
    if LAUNCHER in options.targets:
        _progress(f"{options.streams} streams at once, {LAUNCHER.name}")
        # No faster than a fake server in Python can write to all of them.
        with fake_vllm(min(1.0, options.streams / 2000), 10) as (url, _), running(LAUNCHER, url) as proxy:
            whole, wrong = measure.streams_held(proxy, options.streams)
            results.held = (options.streams, whole, wrong)


def _progress(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=_count, default=5, help="how often each target has its turn (%(default)s)")
    parser.add_argument(
        "--times", type=_count, default=150, help="streams in a turn, a third of the JSON chats (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="how long gapped events are measured (%(default)s)")
    parser.add_argument("--idle", type=_count, default=1000, help="clients that keep their connections (%(default)s)")
    parser.add_argument("--streams", type=_count, default=2000, help="streams that are held at once (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute, and less exact")
    parser.add_argument(
        "--only", action="append", choices=[each.key for each in TARGETS], help="measure this one; may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE, too")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md and docs/performance.svg")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.times, options.seconds, options.idle, options.streams = 2, 60, 2.0, 300, 500
    options.targets = [each for each in TARGETS if not options.only or each.key in options.only]
    if options.write_docs and options.only:
        parser.error("--write-docs needs all targets; leave out --only")
    return options


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError("it must be a number, 1 or more")
    return int(value)


if __name__ == "__main__":
    main()
