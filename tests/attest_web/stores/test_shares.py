from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.stores.shares import Shares


@dataclass(eq=False)
class Item:
    holder: str
    size: int


def test_the_largest_holder_loses_its_oldest_item_first() -> None:
    shares: Shares[Item] = Shares()
    mine = Item("a", 5)
    flood = [Item("b", 2) for _ in range(4)]
    for item in (mine, *flood):
        shares.add(item)
    assert [shares.pop_of_largest() for _ in range(2)] == flood[:2]
    assert shares.pop_of_largest() is mine, "5 is more than the 4 that are left of the other's"
    assert shares.size == 4


def test_nothing_is_evicted_from_an_empty_store() -> None:
    shares: Shares[Item] = Shares()
    item = Item("a", 1)
    shares.add(item)
    shares.remove(item)
    assert shares.oldest() is None
    with pytest.raises(IndexError):
        shares.pop_of_largest()


STEPS = st.lists(
    st.one_of(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), st.sampled_from(["largest", "oldest"]))
)


@given(STEPS)
def test_shares_behave_like_a_plain_list_model(steps: list[str | tuple[str, int]]) -> None:
    shares: Shares[Item] = Shares()
    model: list[Item] = []
    for step in steps:
        if isinstance(step, tuple):
            item = Item(*step)
            shares.add(item)
            model.append(item)
        elif model and step == "oldest":
            oldest = shares.oldest()
            assert oldest is model.pop(0)
            shares.remove(oldest)
        elif model:
            sizes = {holder: sum(item.size for item in model if item.holder == holder) for holder in "abc"}
            lost = shares.pop_of_largest()
            assert sizes[lost.holder] == max(sizes.values())
            assert lost is next(item for item in model if item.holder == lost.holder)
            model.remove(lost)
        assert list(shares) == model
        assert shares.size == sum(item.size for item in model)


def test_shares_bookkeeping_stays_bounded_after_many_evictions() -> None:
    shares: Shares[Item] = Shares()
    for number in range(10_000):
        shares.add(Item(str(number), 1))
        if len(shares) > 10:
            shares.pop_of_largest()
    assert len(shares._largest) < 200
    assert len(shares._holdings) == 10
