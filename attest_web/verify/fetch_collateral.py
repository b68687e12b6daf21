"""Run as a program: gets the collateral for the quote at its stdin from the service that its argument names.

In a process of its own, because of what dcap-qvl leaves behind: threads that touch Python objects when Python is about
to end, which then crashes (https://github.com/PyO3/pyo3-async-runtimes/issues/40). It imports nothing of this project,
so that it runs wherever the caller got it from.
"""

import asyncio
import json
import os
import sys

import dcap_qvl


async def _fetch(url: str, quote: bytes) -> str:
    return str((await dcap_qvl.get_collateral(url, quote)).to_json())


def main() -> None:
    """Write one JSON object to stdout: the `collateral`, or the `error`. Does not return."""
    try:
        said = {"collateral": asyncio.run(_fetch(sys.argv[1], sys.stdin.buffer.read()))}
    except BaseException as error:  # a panic in its Rust code is no Exception
        said = {"error": str(error) or type(error).__name__}
    sys.stdout.write(json.dumps(said))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
