"""The list of mutations fits the code as it stands."""

from pathlib import Path

import pytest

from scripts.mutation_testing.mutations import Mutation, load

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("mutation", load(), ids=lambda each: each.name)
def test_every_listed_mutation_applies_to_the_code(mutation: Mutation) -> None:
    text = (CHECKOUT / mutation.file).read_text()
    assert mutation.apply(text) != text


@pytest.mark.parametrize("mutation", load(), ids=lambda each: each.name)
def test_every_test_named_by_a_mutation_exists(mutation: Mutation) -> None:
    for test in mutation.tests:
        file, _, name = test.partition("::")
        path = CHECKOUT / file
        assert path.is_file()
        assert name.partition("[")[0].rpartition("::")[2] in path.read_text()
