"""What logs and errors say of the guest agent's endpoint."""

import logging

import pytest

from attest_web.dstack.endpoint import SIMULATOR_VARIABLE, shown_endpoint, warn_of_simulator
from attest_web.dstack.guest_agent import Dstack, DstackError


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("/var/run/dstack.sock", "/var/run/dstack.sock"),
        ("/tmp/a@b.sock", "/tmp/a@b.sock"),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("http://me:s3cret@sim.example:1/path", "http://sim.example:1/path"),
        ("http://me:s3/cr@et@sim.example", "http://sim.example"),
        ("http://sim.example/\n\x1b[2J", "http://sim.example/??[2J"),
    ],
)
def test_an_endpoint_is_shown_in_one_line_without_credentials(endpoint: str, shown: str) -> None:
    assert shown_endpoint(endpoint) == shown


@pytest.mark.parametrize(
    "endpoint", ["http://sim.example/\x01", "http://sim.example\n:1", "http://[::1", "http://x:99999"]
)
def test_invalid_endpoint_raises_a_one_line_error(endpoint: str) -> None:
    with pytest.raises(DstackError) as caught:
        Dstack(endpoint).info()
    assert str(caught.value).isprintable()
    assert "it was asked at http://" in str(caught.value)


def test_simulator_keys_are_warned_of_without_the_endpoints_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_simulator(dev=False)
    monkeypatch.setenv(SIMULATOR_VARIABLE, "http://me:s3cret@sim.example")
    warn_of_simulator(dev=True)
    assert not caplog.records
    warn_of_simulator(dev=False)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "come from http://sim.example in place" in record.getMessage()
