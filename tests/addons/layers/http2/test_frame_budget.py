import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame

from addons.layers.http2.frame_budget import (
    DROPPED_BURST,
    DROPPED_PER_SECOND,
    FRAME_BURST,
    FRAMES_PER_SECOND,
    MAX_FRAME,
    MAX_HEADER_BLOCK,
    FrameBudget,
    Http2LimitExceeded,
    TokenBucket,
)
from tests.addons.clock import Clock

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING = PingFrame(0, b"whatever")


@pytest.fixture
def budget(clock: Clock) -> FrameBudget:
    made = FrameBudget(clock)
    made.receive(PREFACE)
    return made


def receive(budget: FrameBudget, *frames: Frame) -> None:
    for frame in frames:
        budget.receive(frame.serialize())


def test_frame_budget_allows_a_burst_and_refuses_the_next_frame(budget: FrameBudget) -> None:
    receive(budget, *[PING] * FRAME_BURST)
    with pytest.raises(Http2LimitExceeded) as excess:
        receive(budget, PING)
    assert excess.value.code is ErrorCodes.ENHANCE_YOUR_CALM


def test_frame_budget_refills_with_time_up_to_the_burst(budget: FrameBudget, clock: Clock) -> None:
    receive(budget, *[PING] * FRAME_BURST)
    clock.now += 1
    receive(budget, *[PING] * FRAMES_PER_SECOND)
    with pytest.raises(Http2LimitExceeded):
        receive(budget, PING)
    clock.now += 3600  # but not without bounds
    with pytest.raises(Http2LimitExceeded):
        receive(budget, *[PING] * (FRAME_BURST + 1))


def test_frame_budget_refills_with_body_bytes(budget: FrameBudget) -> None:
    receive(budget, *[PING] * FRAME_BURST)
    receive(budget, *[DataFrame(1, b"x" * 1000)] * 5000)


def test_frame_budget_is_not_refilled_by_empty_or_tiny_data_frames(budget: FrameBudget) -> None:
    for size in (0, 1):
        with pytest.raises(Http2LimitExceeded):
            receive(budget, *[DataFrame(1, b"x" * size)] * (FRAME_BURST + 10))


def test_frame_budget_refills_with_response_bytes_sent(budget: FrameBudget) -> None:
    for _ in range(FRAME_BURST * 3):
        budget.sent(100)
        receive(budget, PING, PING)
    budget.sent(10_000_000)
    receive(budget, *[PING] * FRAME_BURST)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_frame_budget_counts_frames_for_every_split(budget: FrameBudget, size: int) -> None:
    data = PING.serialize() * FRAME_BURST
    for at in range(0, len(data), size):
        budget.receive(data[at : at + size])
    with pytest.raises(Http2LimitExceeded):
        receive(budget, PING)


def test_frame_budget_refuses_an_oversized_frame_by_its_header(budget: FrameBudget) -> None:
    receive(budget, DataFrame(1, b"x" * MAX_FRAME))
    with pytest.raises(Http2LimitExceeded) as excess:
        budget.receive(DataFrame(1, b"x" * (MAX_FRAME + 1)).serialize()[:9])
    assert excess.value.code is ErrorCodes.FRAME_SIZE_ERROR


def test_frame_budget_bounds_a_header_block_across_continuation_frames(budget: FrameBudget) -> None:
    continued = [ContinuationFrame(1, b"x" * 16_000)] * 3
    for _ in range(3):  # each by itself
        receive(budget, HeadersFrame(1, b"x" * 16_000), *continued)
    assert MAX_HEADER_BLOCK < 5 * 16_000
    with pytest.raises(Http2LimitExceeded):
        receive(budget, ContinuationFrame(1, b"x" * 16_000))


def test_token_bucket_overspent_is_refused_until_refilled(clock: Clock) -> None:
    budget = TokenBucket(burst=2, per_second=1, clock=clock)
    assert [budget.consume(1) for _ in range(3)] == [True, True, False]
    clock.now += 1
    assert not budget.consume(1)
    budget.refill(2)
    assert budget.consume(1)


def test_frame_budget_bounds_body_bytes_that_are_dropped(budget: FrameBudget, clock: Clock) -> None:
    frame = DataFrame(1, b"x" * MAX_FRAME)
    for _ in range(2 * DROPPED_BURST // MAX_FRAME):
        receive(budget, frame)
        budget.taken(MAX_FRAME)
        budget.receive(frame.serialize()[:100])
        budget.settle()
        budget.receive(frame.serialize()[100:])
        budget.taken(MAX_FRAME)
        budget.settle()
    for _ in range(DROPPED_BURST // MAX_FRAME):
        receive(budget, frame)
        budget.settle()
    clock.now += 1
    receive(budget, frame)
    budget.settle()
    receive(budget, *[frame] * (DROPPED_PER_SECOND // MAX_FRAME))
    with pytest.raises(Http2LimitExceeded):
        budget.settle()
