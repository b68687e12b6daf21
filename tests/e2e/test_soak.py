"""Whether the proxy keeps anything of what it has handled, in short; scripts/soak is the long form of it."""

import subprocess

import pytest

from tests.e2e.support.processes import PROGRAMS, ROOT, clean_env
from tests.support.limits import limit

SOAK = ROOT / "scripts" / "soak"


@pytest.mark.parametrize("program", PROGRAMS)
def test_soak_of_mixed_exchanges_leaks_no_memory_threads_sockets_or_files(program: str) -> None:
    short = ["--program", program, "--requests", "200", "--warm-up", "200", "--clients", "16", "--idle", "1"]
    soaked = subprocess.run(
        [SOAK, *short], env=clean_env(), capture_output=True, text=True, timeout=limit(50), check=False
    )
    assert soaked.returncode == 0, soaked.stdout + soaked.stderr
    assert "soak: soak: 200 exchanges" in soaked.stderr
    counted = ("tasks", "connections", "flows") if program == "mitmdump" else ()
    for name in ("memory, MB", "threads", "sockets", "files", *counted):
        assert f"| {name:11} |" in soaked.stdout
