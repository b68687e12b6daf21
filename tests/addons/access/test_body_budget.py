import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.access.body_budget import BodyBudget, HeldBody
from tests.addons.clock import Clock

MOST = 1000


class Memory:
    """Held bodies, and which of them were dropped."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.budget = BodyBudget(MOST, self.clock)
        self.dropped: list[str] = []

    def begin(self, name: str, size: int = 0) -> HeldBody:
        body = self.budget.begin(lambda: self.dropped.append(name))
        assert body.add(size)
        return body


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_body_budget_holds_bodies_up_to_its_limit(memory: Memory) -> None:
    one, other = memory.begin("one", 600), memory.begin("other", 400)
    one.release()
    assert other.add(600)
    assert memory.dropped == []
    assert memory.budget.held == MOST


def test_body_budget_when_full_drops_the_body_with_the_largest_size_times_age(memory: Memory) -> None:
    memory.begin("old and small", 10)
    memory.clock.now += 50
    slow = memory.begin("large and slow", 600)
    memory.clock.now += 10
    memory.begin("large and new", 390)
    memory.clock.now += 1
    memory.begin("newcomer", 300)
    assert memory.dropped == ["large and slow"]
    assert slow.dropped
    assert not slow.add(1), "and nothing more of it is taken"
    assert memory.budget.held == 700


def test_body_budget_when_full_keeps_complete_bodies_and_drops_the_new_one(memory: Memory) -> None:
    memory.begin("complete", MOST).complete()
    memory.clock.now += 100
    newcomer = memory.begin("newcomer")
    assert not newcomer.add(1)
    assert memory.dropped == ["newcomer"]
    assert memory.budget.held == MOST


def test_body_budget_when_full_drops_bodies_kept_for_a_retry_first(memory: Memory) -> None:
    memory.begin("first", 400).sent()
    memory.begin("second", 300).sent()
    memory.clock.now += 100
    memory.begin("newcomer", 500)
    assert memory.dropped == ["first"]
    assert memory.budget.held == 800


def test_body_budget_refuses_a_body_larger_than_its_limit(memory: Memory) -> None:
    body = memory.begin("large")
    assert not body.add(MOST + 1)
    assert memory.budget.held == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            st.sampled_from(["add", "less", "complete", "sent", "release", "drop"]),
            st.integers(0, 700),
        )
    )
)
def test_body_budget_total_equals_the_sum_of_the_held_bodies_after_any_steps(steps: list[tuple[int, str, int]]) -> None:
    memory = Memory()
    bodies: dict[int, HeldBody] = {}
    for which, what, size in steps:
        memory.clock.now += 1
        body = bodies.setdefault(which, memory.budget.begin(lambda: None))
        if what in ("add", "less"):
            getattr(body, what)(size)
        else:
            getattr(body, what)()
        assert memory.budget.held == sum(body.size for body in bodies.values()) <= MOST
