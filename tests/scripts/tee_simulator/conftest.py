import json
from typing import Any

import pytest

from scripts.tee_simulator.event_log import Event, Log
from scripts.tee_simulator.tdx import SimulatedPlatform


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
