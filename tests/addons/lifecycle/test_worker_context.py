import pytest

from addons.lifecycle.worker_context import WorkerContext


@pytest.mark.parametrize(
    ("workers", "limit", "share"), [(1, 100, 100), (4, 100, 25), (3, 100, 34), (4, 3, 1), (4, 1, 1), (2, 0, 0)]
)
def test_worker_context_share_of_a_limit_is_divided_and_rounded_up(workers: int, limit: int, share: int) -> None:
    assert WorkerContext(workers=workers).share_of(limit) == share


def test_worker_context_of_a_single_process_inherits_nothing() -> None:
    alone = WorkerContext()
    assert (alone.number, alone.workers) == (0, 1)
    assert {alone.keys, alone.store, alone.metrics, alone.listener, alone.side_listener, alone.tls_file} == {None}
