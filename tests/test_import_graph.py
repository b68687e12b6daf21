"""The map of the packages: which room may import which, and what every room and module has to be.

The graph is drawn from the source, so that an import within a function or for types alone is an arrow like any other.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("addons", "attest_web")

ROOMS: Final = (
    {"launcher"},
    {"tee_signer"},
    {"chain"},
    {"layers", "pages", "inspection", "observability"},
    {"access", "signing", "upstream", "lifecycle"},
    {"routing"},
    {"bodies"},
    {"messages", "exchange"},
    {"attest_web"},
)
"""The rooms of addons from top to bottom: a module imports its own room and those of the rows below."""

RANK = {room: row for row, rooms in enumerate(ROOMS) for room in rooms}

INPUT_AND_OUTPUT: Final = {
    "asyncio",
    "mitmproxy.ctx",
    "mitmproxy.proxy",
    "multiprocessing",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
}
"""What a sans-I/O room does without."""

MAX_MODULES: Final = 15

MAX_LINES: Final = 330


class Arrow(NamedTuple):
    """An import of one module by another."""

    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.importer} -> {self.imported}"


def test_imports_between_addon_packages_run_downwards() -> None:
    backward = {str(arrow) for arrow in arrows() if is_in_addons(arrow.importer) and not runs_down(arrow)}
    assert shown(backward) == ""


def test_attest_web_imports_neither_addons_nor_mitmproxy() -> None:
    backward = [
        arrow
        for arrow in arrows()
        if arrow.importer.startswith("attest_web") and top_level(arrow.imported) in {"addons", "mitmproxy"}
    ]
    assert shown(backward) == ""


def test_attest_web_packages_have_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for arrow in arrows():
        if top_level(arrow.importer) == top_level(arrow.imported) == "attest_web":
            importer, imported = part_of_attest_web(arrow.importer), part_of_attest_web(arrow.imported)
            graph.setdefault(importer, set()).update({imported} - {importer})
    assert circle(graph) == ""


def test_modules_have_no_import_cycle() -> None:
    names = set(modules())
    graph: dict[str, set[str]] = {name: set() for name in names}
    for arrow in arrows():
        if arrow.imported in names:
            graph[arrow.importer].add(arrow.imported)
    assert circle(graph) == ""


def test_bodies_package_does_not_import_mitmproxy() -> None:
    found = [arrow for arrow in arrows() if room(arrow.importer) == "bodies" and "mitmproxy" in arrow.imported]
    assert shown(found) == ""


def test_sans_io_packages_import_no_io_modules() -> None:
    found = [
        arrow
        for arrow in arrows()
        if is_in_addons(arrow.importer)
        and room(arrow.importer) in {"bodies", "messages", "exchange"}
        and any(f"{arrow.imported}.".startswith(f"{name}.") for name in INPUT_AND_OUTPUT)
    ]
    assert shown(found) == ""


def test_every_package_has_a_one_sentence_docstring() -> None:
    wrong = [folder for folder in folders() if not is_one_sentence(docstring(ROOT / folder / "__init__.py"))]
    assert wrong == []


def test_no_folder_has_more_than_fifteen_modules() -> None:
    counts = {folder: len([*modules_in(ROOT / folder)]) for folder in folders()}
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_no_module_is_longer_than_the_limit() -> None:
    counts = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules().values()}
    assert {file: count for file, count in counts.items() if count > MAX_LINES} == {}


def test_import_parser_finds_nested_and_type_checking_imports() -> None:
    source = (
        "import a.b\n"
        "if TYPE_CHECKING:\n    from c import d\n"
        "def f():\n    from addons.launcher import command, nothing\n"
    )
    assert set(imports("addons.x", ast.parse(source))) == {
        Arrow("addons.x", "a.b"),
        Arrow("addons.x", "c"),
        Arrow("addons.x", "addons.launcher.command"),
        Arrow("addons.x", "addons.launcher"),
    }


def test_import_within_a_package_or_below_runs_down_and_others_do_not() -> None:
    assert runs_down(Arrow("addons.layers.a", "addons.layers.http1.b"))
    assert runs_down(Arrow("addons.layers.a", "addons.access.b"))
    assert runs_down(Arrow("addons.access.a", "attest_web.keys"))
    assert not runs_down(Arrow("addons.access.a", "addons.layers.b"))
    assert not runs_down(Arrow("addons.access.a", "addons.signing.b"))
    assert not runs_down(Arrow("addons.routing.a", "addons.chain"))


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name; a package by the name of its folder."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def arrows() -> tuple[Arrow, ...]:
    return tuple(arrow for name, path in modules().items() for arrow in set(imports(name, ast.parse(path.read_text()))))


def imports(name: str, tree: ast.Module) -> Iterator[Arrow]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Arrow(name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import, which this test does not follow"
            assert node.module is not None
            for alias in node.names:
                imported = f"{node.module}.{alias.name}"
                is_module = imported in modules() or imported in INPUT_AND_OUTPUT
                yield Arrow(name, imported if is_module else node.module)


def runs_down(arrow: Arrow) -> bool:
    if top_level(arrow.imported) not in PACKAGES:
        return True
    importer, imported = room(arrow.importer), room(arrow.imported)
    assert {importer, imported} <= RANK.keys(), f"{arrow}: a room that has no place in ROOMS"
    return importer == imported or RANK[importer] < RANK[imported]


def is_in_addons(module: str) -> bool:
    return module.startswith("addons.")


def room(module: str) -> str:
    return module.split(".")[1] if is_in_addons(module) else top_level(module)


def part_of_attest_web(module: str) -> str:
    """A module's folder, at every depth; the modules at the top stand for themselves."""
    folder, _, _ = module.rpartition(".")
    return module if folder == "attest_web" or is_folder(module) else folder


def is_folder(module: str) -> bool:
    return module in modules() and modules()[module].name == "__init__.py"


def top_level(module: str) -> str:
    return module.partition(".")[0]


def circle(graph: dict[str, set[str]]) -> str:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " <- ".join(error.args[1])
    return ""


def shown(found: Iterable[object]) -> str:
    return "\n".join(sorted(map(str, found)))


def folders() -> list[str]:
    """Every folder of the product that has modules."""
    return sorted({str(path.parent.relative_to(ROOT)) for path in modules().values()})


def modules_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*.py") if path.name != "__init__.py")


def docstring(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "") if path.exists() else ""


def is_one_sentence(text: str) -> bool:
    first = text.partition("\n\n")[0]
    return first.endswith(".") and ". " not in first.replace("\n", " ")
