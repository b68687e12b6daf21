import json
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.tee_simulator.event_log import Event, Log
from scripts.tee_simulator.guest import GuestOptions, SimulatedGuest
from scripts.tee_simulator.tdx import SimulatedPlatform
from tests.scripts.tee_simulator.serving import Serving, serving


@pytest.fixture(scope="session")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform()


@pytest.fixture(scope="session")
def real_log(dstack_vectors: dict[str, Any]) -> Log:
    """A log of version 1 as dstack's own agent has it, with all digests and payloads."""
    tcb_info = json.loads(dstack_vectors["real_agent"]["v1"]["Info_without_app_cert"]["tcb_info"])
    return tuple(
        Event(
            event["imr"],
            event["event_type"],
            bytes.fromhex(event["digest"]),
            event["event"],
            bytes.fromhex(event["event_payload"]),
        )
        for event in tcb_info["event_log"]
    )


@pytest.fixture(scope="session")
def served(platform: SimulatedPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A guest of dstack 0.6 as it is by default, served."""
    guest = SimulatedGuest(platform, GuestOptions(bytes(range(32))))
    with serving(tmp_path_factory.mktemp("guest"), guest) as paths:
        yield paths
