from mitmproxy.proxy.commands import RequestWakeup

from addons.layers.end_of_stream import END_TIMEOUT, EndOfStreamTimeout


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.streams = EndOfStreamTimeout(lambda: self.now)

    def watch(self, alive: set[int]) -> float | None:
        """The delay of the timer that is set, if one is."""
        for command in self.streams.watch(alive):
            assert isinstance(command, RequestWakeup)
            return command.delay
        return None


def test_end_of_stream_watch_sets_one_timer_for_the_earliest_stream() -> None:
    clock = Clock()
    clock.streams.note(1)
    assert clock.streams.noted
    assert clock.watch({1, 3}) == END_TIMEOUT
    assert not clock.streams.noted
    clock.now += 1
    clock.streams.note(3)
    assert clock.watch({1, 3}) is None
    clock.now += END_TIMEOUT - 1
    assert clock.streams.overdue({1, 3}) == [1]
    assert clock.watch({3}) == 1


def test_end_of_stream_ended_stream_needs_no_timer() -> None:
    clock = Clock()
    clock.streams.note(1)
    assert clock.watch(set()) is None


def test_end_of_stream_early_timer_is_set_again_for_the_remaining_time() -> None:
    clock = Clock()
    clock.streams.note(1)
    clock.watch({1})
    clock.now += END_TIMEOUT - 0.25
    assert clock.streams.overdue({1}) == []
    assert clock.watch({1}) == 0.25


def test_end_of_stream_excused_stream_is_extended_up_to_a_limit() -> None:
    clock = Clock()
    clock.streams.note(1)
    clock.watch({1})
    for _ in range(3):
        clock.now += END_TIMEOUT
        assert clock.streams.overdue({1}, excused=4 * END_TIMEOUT) == []
        assert clock.watch({1}) == END_TIMEOUT
    clock.now += END_TIMEOUT
    assert clock.streams.overdue({1}, excused=4 * END_TIMEOUT) == [1]
    assert clock.watch(set()) is None
