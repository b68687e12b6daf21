"""Run as a program: fetches the collateral for the quote on stdin from the service that its argument names.

It is a process of its own because dcap-qvl leaves threads behind that touch Python objects while the interpreter
exits, which crashes it (https://github.com/PyO3/pyo3-async-runtimes/issues/40). It imports nothing of this project, so
that it runs from any location.
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
