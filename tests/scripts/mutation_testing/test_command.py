import pytest

from scripts.mutation_testing.command import selected, summary
from scripts.mutation_testing.mutations import Mutation
from scripts.mutation_testing.runner import Outcome, Result


def mutation(name: str, file: str) -> Mutation:
    return Mutation(name, f"what {name} breaks", file, "old", "new", ("test.py",))


STORE = mutation("store-first", "attest_web/stores/shares.py")
GPU = mutation("gpu-first", "attest_web/verify/gpu.py")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], [STORE, GPU]),
        (["gpu-*"], [GPU]),
        (["attest_web/stores/*"], [STORE]),
        (["*first"], [STORE, GPU]),
        (["store-first", "gpu-first"], [STORE, GPU]),
        (["gpu"], []),
    ],
)
def test_a_pattern_selects_by_name_or_file(patterns: list[str], expected: list[Mutation]) -> None:
    assert selected([STORE, GPU], patterns) == expected


def test_the_summary_counts_outcomes_and_names_what_was_not_caught() -> None:
    results = [
        Result(STORE, Outcome.CAUGHT, "test.py::test_x", 1.0),
        Result(GPU, Outcome.MISSED, "", 1.0),
        Result(GPU, Outcome.DOES_NOT_APPLY, "no text", 1.0),
    ]
    assert summary(results).splitlines() == [
        "1 caught, 1 missed, 1 does not apply",
        "missed: gpu-first: what gpu-first breaks",
        "does not apply: gpu-first: what gpu-first breaks (no text)",
    ]
