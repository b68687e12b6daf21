import logging
import tempfile
from pathlib import Path

import pytest

from addons.lifecycle.temporary_authority import AUTHORITY_FILE, TemporaryAuthority
from attest_web.settings import SettingsError

NOWHERE = "/proc/nowhere/.mitmproxy"
"""A directory that not even root can make."""


def test_temporary_authority_is_not_needed_for_a_writable_directory(tmp_path: Path) -> None:
    assert TemporaryAuthority.where_needed(str(tmp_path / "new")) is None


def test_temporary_authority_is_not_needed_if_the_authority_file_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / AUTHORITY_FILE).write_text("")
    monkeypatch.setattr(Path, "mkdir", None)
    assert TemporaryAuthority.where_needed(str(tmp_path)) is None


def test_temporary_authority_replaces_an_unwritable_directory_until_the_end(
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


def test_temporary_authority_without_a_temporary_directory_raises_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: str) -> str:
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    with pytest.raises(SettingsError, match=rf"neither {NOWHERE} nor .* --set confdir=DIR"):
        TemporaryAuthority.where_needed(NOWHERE)
