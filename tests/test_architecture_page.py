import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATH = re.compile(r"`((?:addons|attest_web|deploy|docs|scripts|tests)/[\w/.]*)`")


def test_every_path_that_the_page_names_exists() -> None:
    named = PATH.findall(PAGE)
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_room_of_addons_is_in_its_table() -> None:
    rooms = {path.parent.name for path in (ROOT / "addons").glob("*/__init__.py")}
    assert {room for room in rooms if f"`addons/{room}/`" not in PAGE} == set()


def test_every_folder_of_attest_web_is_in_its_table() -> None:
    folders = {path.parent.name for path in (ROOT / "attest_web").glob("*/__init__.py")}
    assert {folder for folder in folders if f"`{folder}/`" not in PAGE} == set()


def test_each_answer_to_where_to_add_names_one_to_three_files() -> None:
    rows = PAGE.partition("## Where to add")[2].partition("## ")[0].splitlines()[4:]
    answers = {row.split("|")[1].strip(): row.split("|")[2] for row in rows if row.startswith("| ")}
    assert len(answers) == 10
    assert {
        what: PATH.findall(answer) for what, answer in answers.items() if not 1 <= len(PATH.findall(answer)) <= 3
    } == {}
