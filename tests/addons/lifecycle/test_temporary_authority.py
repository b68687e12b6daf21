import logging
import tempfile
from pathlib import Path

import pytest

from addons.lifecycle.temporary_authority import AUTHORITY_FILE, TemporaryAuthority
from attest_web.settings import SettingsError

NOWHERE = "/proc/nowhere/.mitmproxy"
"""A directory that not even root can make."""


def test_a_directory_that_can_be_written_is_mitmproxys_own(tmp_path: Path) -> None:
    assert TemporaryAuthority.where_needed(str(tmp_path / "new")) is None


def test_an_authority_that_is_there_can_be_read_and_need_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / AUTHORITY_FILE).write_text("")
    monkeypatch.setattr(Path, "mkdir", None)
    assert TemporaryAuthority.where_needed(str(tmp_path)) is None


def test_in_place_of_one_that_cannot_be_written_there_is_another_until_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = TemporaryAuthority.where_needed(NOWHERE)
    assert made is not None
    directory = Path(made.options()["confdir"])
    assert directory.stat().st_mode & 0o777 == 0o700
    assert NOWHERE in caplog.text
    assert "--set confdir=DIR" in caplog.text
    made.done()
    assert not directory.exists()


def test_where_there_is_none_the_error_names_what_was_tried_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: str) -> str:
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    with pytest.raises(SettingsError, match=rf"neither {NOWHERE} nor .* --set confdir=DIR"):
        TemporaryAuthority.where_needed(NOWHERE)
