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


def test_there_is_one_timer_and_it_is_for_the_first() -> None:
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


def test_a_stream_that_has_ended_needs_no_timer() -> None:
    clock = Clock()
    clock.streams.note(1)
    assert clock.watch(set()) is None


def test_a_timer_that_is_early_is_set_again() -> None:
    clock = Clock()
    clock.streams.note(1)
    clock.watch({1})
    clock.now += END_TIMEOUT - 0.25
    assert clock.streams.overdue({1}) == []
    assert clock.watch({1}) == 0.25


def test_a_stream_that_is_excused_is_looked_at_again_and_not_for_ever() -> None:
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
