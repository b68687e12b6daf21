import socket
from collections.abc import Iterator

import pytest

from tests.e2e.processes import Proxy, Simulator, running_proxy, running_simulator, running_stand_in


@pytest.fixture(scope="session")
def stand_in() -> Iterator[str]:
    """Address of a stand-in model that answers at once."""
    with running_stand_in() as url:
        yield url


@pytest.fixture(scope="session")
def proxy(stand_in: str) -> Iterator[Proxy]:
    """A proxy before the stand-in model, shared by all tests that do it no harm."""
    with running_proxy(stand_in) as running:
        yield running


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A dstack simulator, shared by all tests that do it no harm."""
    with running_simulator(tmp_path_factory.mktemp("dstack"), "--seed", "5eed" * 16) as running:
        yield running


@pytest.fixture
def free_ports() -> list[int]:
    """Two ports that were free a moment ago."""
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as two:
        return [one.getsockname()[1], two.getsockname()[1]]
