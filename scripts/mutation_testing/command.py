#!/usr/bin/env python3
"""Puts known mistakes into a copy of the checkout, one at a time, and says whether the tests catch them.

The mistakes are the mutations of scripts/mutation_testing/mutations/*.toml. For each one, the tests that it names are
run; it is caught when one of them fails. First, all these tests run without a mutation, and must pass. The checkout
itself is only read. The exit status is 1 where a mutation is missed, does not apply any more or its tests do not run,
and 2 where the tests fail without one.
"""

import argparse
import fnmatch
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from scripts.mutation_testing.checkout import copy_of
from scripts.mutation_testing.mutations import Mutation, MutationError, load
from scripts.mutation_testing.runner import PASSED, Outcome, Result, run_tests, try_mutation

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run the command."""
    for number in (signal.SIGINT, signal.SIGTERM):  # an exception, so that copies are removed and tests are ended
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    options = _options()
    try:
        mutations = selected(load(), options.only)
    except MutationError as error:
        sys.exit(f"mutate: {error}")
    if not mutations:
        sys.exit("mutate: no mutation has such a name or file; --list shows them")
    if options.list:
        for each in mutations:
            print(f"{each.name} ({each.file}): {each.description}")
        return
    if not options.no_baseline:
        _check_baseline(mutations, options.limit)
    results = _try_all(mutations, options)
    print(summary(results))
    sys.exit(0 if all(each.outcome is Outcome.CAUGHT for each in results) else 1)


def selected(mutations: Sequence[Mutation], patterns: Sequence[str]) -> list[Mutation]:
    """The mutations whose name or file matches a pattern; all, where there is no pattern.

    Args:
        mutations: The list.
        patterns: As the shell has them; `*` matches `/`, too.
    """
    return [
        each
        for each in mutations
        if not patterns
        or any(fnmatch.fnmatchcase(text, pattern) for text in (each.name, each.file) for pattern in patterns)
    ]


def summary(results: Sequence[Result]) -> str:
    """How many had which outcome, and those that were not caught."""
    counts = Counter(each.outcome for each in results)
    lines = [", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])]
    for each in results:
        if each.outcome is not Outcome.CAUGHT:
            why = f" ({each.detail})" if each.detail else ""
            lines.append(f"{each.outcome.value}: {each.mutation.name}: {each.mutation.description}{why}")
    return "\n".join(lines)


def _check_baseline(mutations: Sequence[Mutation], limit: float) -> None:
    tests = list(dict.fromkeys(test for each in mutations for test in each.tests))
    _progress(f"{len(tests)} test files without a mutation")
    with copy_of(CHECKOUT) as copy:
        run = run_tests(copy, tests, limit * len(tests), threading.Event())
    if run.status != PASSED:
        for each in run.failed:
            _progress(f"fails without a mutation: {each}")
        print(f"mutate: the tests fail without a mutation: {run.last_line}", file=sys.stderr)
        sys.exit(2)


def _try_all(mutations: Sequence[Mutation], options: argparse.Namespace) -> list[Result]:
    results: dict[str, Result] = {}
    stopping = threading.Event()
    with ThreadPoolExecutor(options.jobs) as executor:
        running = [
            executor.submit(try_mutation, each, CHECKOUT, options.also, options.limit, stopping) for each in mutations
        ]
        try:
            for done in as_completed(running):
                result = done.result()
                results[result.mutation.name] = result
                detail = f": {result.detail}" if result.detail else ""
                _progress(
                    f"{len(results)} of {len(mutations)}: {result.outcome.value}: {result.mutation.name}{detail}"
                    f" ({result.seconds:.0f} s)"
                )
        except BaseException:
            stopping.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[each.name] for each in mutations]


def _progress(what: str) -> None:
    print(f"mutate: {what}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="show the mutations and run nothing")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only mutations whose name or file matches, such as 'gpu-*' or 'attest_web/stores/*'; may be repeated",
    )
    parser.add_argument(
        "-j", "--jobs", type=_count, default=1, metavar="N", help="mutations tried at once (%(default)s)"
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="TEST",
        help="where the named tests miss a mutation, run this file or directory, too; may be repeated",
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, metavar="SECONDS", help="how long the tests of one may take (%(default)s)"
    )
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests without a mutation first")
    return parser.parse_args()


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError("it must be a number, 1 or more")
    return int(value)


if __name__ == "__main__":
    main()
