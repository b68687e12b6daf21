"""The list of mutations: TOML files with one `[[mutation]]` table for each.

    [[mutation]]
    name = "eip191-length-in-bits"
    description = "The EIP-191 form has the text's length in bits"
    file = "attest_web/signatures.py"
    old = '''% (len(text), text))'''
    new = '''% (8 * len(text), text))'''
    tests = ["tests/attest_web/test_signatures.py"]

`old` occurs exactly once in `file`. In a string of several lines, the line break behind the opening `'''` is not part
of it (TOML 1.0, "String"). `tests` are pytest's arguments, files or node ids, that are expected to catch the mutation.
"""

import ast
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("mutations")
"""Directory of the TOML files. They are read in the order of their names."""


class MutationError(Exception):
    """A mutation does not apply, or its entry is malformed."""


@dataclass(frozen=True)
class Mutation:
    """A plausible mistake in a file.

    Attributes:
        name: Words with hyphens, unique in the list.
        description: The program's wrong behaviour, in one line.
        file: Path relative to the checkout.
        old: Text that occurs exactly once in the file.
        new: Its replacement.
        tests: Arguments of pytest, relative to the checkout.
    """

    name: str
    description: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, text: str) -> str:
        """The text of the file with the mutation.

        Raises:
            MutationError: `old` is not in it exactly once, or what comes out is not Python.
        """
        count = text.count(self.old)
        if count != 1:
            raise MutationError(f"its old text stands {count} times in {self.file}, not once")
        mutated = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            try:
                ast.parse(mutated)
            except SyntaxError as error:
                raise MutationError(
                    f"with it, {self.file} is not valid Python: {error.msg}, line {error.lineno}"
                ) from None
        return mutated

    def apply_to(self, checkout: Path) -> None:
        """Change the file in a checkout.

        Raises:
            MutationError: See `apply`; or there is no such file.
        """
        path = checkout / self.file
        if not path.is_file():
            raise MutationError(f"there is no {self.file}")
        path.write_text(self.apply(path.read_text()))


def parse(text: str) -> list[Mutation]:
    """Read a file of the list.

    Raises:
        MutationError: It is not TOML, or an entry has other members or types than `Mutation` has, or changes nothing.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MutationError(f"not TOML: {error}") from None
    if set(document) - {"mutation"}:
        raise MutationError("a file of the list has [[mutation]] tables and nothing else")
    return [_mutation(entry) for entry in document.get("mutation", [])]


def load(directory: Path = LIST) -> list[Mutation]:
    """Read the whole list.

    Raises:
        MutationError: A file is malformed, or a name stands twice. The message names the file.
    """
    mutations: dict[str, Mutation] = {}
    for path in sorted(directory.glob("*.toml")):
        try:
            for each in parse(path.read_text()):
                if each.name in mutations:
                    raise MutationError(f"there are two mutations named {each.name}")
                mutations[each.name] = each
        except MutationError as error:
            raise MutationError(f"{path.name}: {error}") from None
    return list(mutations.values())


def _mutation(entry: dict[str, Any]) -> Mutation:
    name = entry.get("name")
    names = {field.name for field in fields(Mutation)}
    if set(entry) != names:
        wrong = ", ".join(sorted(set(entry) ^ names))
        raise MutationError(f"the mutation {name!r} lacks these members or has them too many: {wrong}")
    tests = entry.pop("tests")
    if not isinstance(tests, list) or not tests or not all(isinstance(each, str) for each in [*tests, *entry.values()]):
        raise MutationError(
            f"the mutation {name!r} has a member of another type: strings, and a list of strings in tests"
        )
    if entry["old"] == entry["new"]:
        raise MutationError(f"the mutation {name!r} changes nothing")
    return Mutation(tests=tuple(tests), **entry)
