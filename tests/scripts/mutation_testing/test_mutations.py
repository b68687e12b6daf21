from pathlib import Path

import pytest

from scripts.mutation_testing.mutations import Mutation, MutationError, load, parse

ENTRY = """
[[mutation]]
name = "one-is-two"
description = "One is two"
file = "code.py"
old = '''
    return 1
'''
new = '''
    return 2
'''
tests = ["test_code.py"]
"""


def mutation(old: str, new: str, file: str = "code.py") -> Mutation:
    return Mutation("name", "description", file, old, new, ("test_code.py",))


def test_mutation_entry_drops_the_line_break_after_the_opening_quotes() -> None:
    assert parse(ENTRY) == [
        Mutation("one-is-two", "One is two", "code.py", "    return 1\n", "    return 2\n", ("test_code.py",))
    ]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[[mutation]]", "[[mutations]]", "nothing else"),
        ('name = "one-is-two"', "", "lacks these members or has them too many: name"),
        ('name = "one-is-two"', 'name = "one"\nworks = true', "too many: works"),
        ('["test_code.py"]', '"test_code.py"', "another type"),
        ('["test_code.py"]', "[]", "another type"),
        ('"code.py"', "7", "another type"),
        ("return 2", "return 1", "changes nothing"),
        ("'''\ntests", "tests", "not TOML"),
    ],
)
def test_a_malformed_entry_is_refused_with_the_reason(old: str, new: str, why: str) -> None:
    with pytest.raises(MutationError, match=why):
        parse(ENTRY.replace(old, new))


def test_mutations_are_loaded_from_all_files_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(ENTRY)
    (tmp_path / "a.toml").write_text(ENTRY.replace("one-is-two", "other"))
    assert [each.name for each in load(tmp_path)] == ["other", "one-is-two"]


def test_a_name_in_two_files_is_refused_and_the_file_named(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(ENTRY)
    with pytest.raises(MutationError, match=r"b\.toml: .*one-is-two"):
        load(tmp_path)


def test_a_mutation_applies_where_its_old_text_stands_once() -> None:
    assert mutation("a = 1", "a = 2").apply("a = 1\nb = 1\n") == "a = 2\nb = 1\n"


@pytest.mark.parametrize(("old", "count"), [("= 1", 2), ("= 3", 0)])
def test_a_mutation_does_not_apply_where_its_old_text_is_missing_or_repeated(old: str, count: int) -> None:
    with pytest.raises(MutationError, match=f"stands {count} times in code.py"):
        mutation(old, "= 2").apply("a = 1\nb = 1\n")


def test_a_mutation_that_leaves_invalid_python_does_not_apply() -> None:
    with pytest.raises(MutationError, match=r"code\.py is not valid Python"):
        mutation("a = 1", "a =").apply("a = 1\n")
    assert mutation("a = 1", "a =", "page.js").apply("a = 1\n") == "a =\n"


def test_a_mutation_of_a_missing_file_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(MutationError, match=r"no code\.py"):
        mutation("a", "b").apply_to(tmp_path)
