import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from attest_web.environment_file import EnvironmentFile
from attest_web.settings import SettingsError


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.update({"T_A": "from outside", "T_B": "from outside"})
    yield
    os.environ.clear()
    os.environ.update(kept)


def test_environment_file_overrides_the_environment_and_restores_removed_variables(tmp_path: Path) -> None:
    path = tmp_path / "settings.env"
    path.write_text("# a comment\nT_A=from the file\nexport T_C='with # and $T_B'\n")
    file = EnvironmentFile(path)
    file.read()
    assert (os.environ["T_A"], os.environ["T_B"]) == ("from the file", "from outside")
    assert os.environ["T_C"] == "with # and $T_B"
    path.write_text("T_B=\n")
    file.read()
    assert (os.environ["T_A"], os.environ["T_B"], "T_C" in os.environ) == ("from outside", "", False)


@pytest.mark.parametrize("content", [None, b"T_A=\xff\n", b"T_A=x\nT_B", b"T_A='x\n", b"T_A: x\n", b"T A=x\n"])
def test_environment_file_that_is_unreadable_is_named_and_changes_nothing(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "settings.env"
    if content is not None:
        path.write_bytes(content)
    before = dict(os.environ)
    with pytest.raises(SettingsError, match=f"--env-file {path} cannot be read"):
        EnvironmentFile(path).read()
    assert dict(os.environ) == before


def test_environment_file_error_names_each_invalid_line_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "settings.env"
    path.write_text("T_A=x\n# a comment\n\nsecret\nT_B='secret\n")
    with pytest.raises(SettingsError, match=r"line 4 [^\0]*line 5 ") as refused:
        EnvironmentFile(path).read()
    assert "secret" not in str(refused.value)


def test_environment_file_absent_leaves_the_environment_unchanged() -> None:
    before = dict(os.environ)
    EnvironmentFile(None).read()
    assert dict(os.environ) == before
