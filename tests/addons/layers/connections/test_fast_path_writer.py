"""What the fast path writes to the client, and when it leaves that to the layers."""

from typing import Any

import pytest

from addons.layers.connections.fast_path_writer import NEVER_FULL, FastPathWriter


class FakeFastPath:
    """Takes a fixed number of bytes."""

    def __init__(self, takes: int) -> None:
        self._takes = takes
        self.seen: list[bytes] = []

    def take(self, data: bytes) -> int:
        self.seen.append(data)
        return min(self._takes, len(data))


class FakeClient:
    """A transport to a client, and the connection handler's watchdog."""

    def __init__(self, waiting: int = 0, *, closing: bool = False) -> None:
        self.written: list[bytes] = []
        self.activities = 0
        self._waiting = waiting
        self._closing = closing

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes) -> None:
        self.written.append(data)

    @property
    def timeout_watchdog(self) -> "FakeClient":
        return self

    def register_activity(self) -> None:
        self.activities += 1


class Upstream:
    """The layer of an upstream connection, with a fast path or without."""

    conn: Any = None

    def __init__(self, fast_path: Any) -> None:
        self.fast_path = fast_path


def writer(upstream: Any, client: Any) -> FastPathWriter:
    return FastPathWriter(upstream, client, client)


@pytest.mark.parametrize(("takes", "written"), [(3, [b"abc"]), (6, [b"abcdef"]), (9, [b"abcdef"])])
def test_fast_path_writer_writes_taken_data_and_refreshes_the_timeout(takes: int, written: list[bytes]) -> None:
    client = FakeClient()
    assert writer(Upstream(FakeFastPath(takes)), client).take(b"abcdef") == len(written[0])
    assert client.written == written
    assert client.activities == 1


def test_fast_path_writer_writes_nothing_if_nothing_is_taken() -> None:
    client = FakeClient()
    assert writer(Upstream(FakeFastPath(0)), client).take(b"abcdef") == 0
    assert (client.written, client.activities) == ([], 0)


def test_fast_path_writer_without_a_streaming_body_takes_nothing() -> None:
    client = FakeClient()
    assert writer(Upstream(None), client).take(b"abcdef") == 0
    assert client.written == []


@pytest.mark.parametrize(("waiting", "taken"), [(NEVER_FULL, 6), (NEVER_FULL + 1, 0)])
def test_fast_path_writer_with_a_full_client_buffer_leaves_data_to_the_layers(waiting: int, taken: int) -> None:
    fast_path, client = FakeFastPath(6), FakeClient(waiting)
    assert writer(Upstream(fast_path), client).take(b"abcdef") == taken
    assert len(fast_path.seen) == (taken > 0), "what is not written must not be hashed"


def test_fast_path_writer_with_a_closing_client_takes_nothing() -> None:
    fast_path, client = FakeFastPath(6), FakeClient(closing=True)
    assert writer(Upstream(fast_path), client).take(b"abcdef") == 0
    assert (fast_path.seen, client.written) == ([], [])
