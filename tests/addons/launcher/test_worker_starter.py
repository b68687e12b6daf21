"""What workers share; tests/addons/launcher/test_supervisor_slots.py starts them."""

import pytest

from addons.launcher.worker_starter import Generation
from attest_web.settings import Settings, load_settings


def test_generation_keeps_the_environment_of_its_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(Settings, {"model_name": "m", "token": "t", "dev": "1"})
    monkeypatch.setenv("MODEL_NAME", "before")
    generation = Generation(settings, None)
    monkeypatch.setenv("MODEL_NAME", "after")
    assert generation.environment["MODEL_NAME"] == "before"
    assert Generation(settings, None).environment["MODEL_NAME"] == "after"
    assert generation.addresses is None
