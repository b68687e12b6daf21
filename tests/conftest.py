import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from attest_web.keys import SigningKeys
from tests.support.limits import limit
from tests.support.tools import Tool

VECTORS = Path(__file__).with_name("vectors.json")
DSTACK_VECTORS = Path(__file__).with_name("dstack-vectors.json")


def let_programs_be_interrupted() -> None:
    """Have SIGINT end what the tests start, even where a shell has started them in the background.

    Such a shell has the signal ignored (POSIX, XCU 2.11), which programs inherit, and no bash script can undo. A signal
    with a handler goes back to its default in the programs that are started.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    let_programs_be_interrupted()
    # An example has the test's time limit, which grows with the load; those of hypothesis itself do not: 200 ms for
    # an example, and a second or so for making the first ones.
    settings.register_profile("tests", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
    settings.load_profile("tests")
    config.addinivalue_line(
        "markers", "needs_tool(tool): skip, or fail in CI, where a `tests.support.tools.Tool` is missing"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs_tool"):
        tool: Tool = marker.args[0]
        tool.require()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Give a test more time on a busy machine; pytest-timeout reads its limit when the test begins."""
    marker, asked = item.get_closest_marker("timeout"), item.config.getoption("timeout")
    seconds = marker.args[0] if marker else asked if asked is not None else float(item.config.getini("timeout"))
    item.add_marker(pytest.mark.timeout(limit(seconds)), append=False)
    return (yield)


@pytest.fixture(scope="session")
def vectors() -> dict[str, str]:
    """The wire contract's test vectors."""
    loaded: dict[str, str] = json.loads(VECTORS.read_text())
    return loaded


@pytest.fixture(scope="session")
def dstack_vectors() -> dict[str, Any]:
    """What dstack's own programs and real guests have answered, and attacks on their event logs."""
    loaded: dict[str, Any] = json.loads(DSTACK_VECTORS.read_text())
    return loaded


@pytest.fixture(scope="session")
def keys(vectors: dict[str, str]) -> SigningKeys:
    """The keys of the test vectors."""
    return SigningKeys.from_secrets(bytes.fromhex(vectors["ecdsa_secret"]), bytes.fromhex(vectors["ed25519_seed"]))
