import logging
from collections.abc import Iterator

import pytest
from mitmproxy import flow as mitm_flow
from mitmproxy.proxy import events
from mitmproxy.test import tflow

from addons.observability.log_redaction import LogPrivacy

MARK = "XMARKX"


@pytest.fixture
def privacy() -> Iterator[LogPrivacy]:
    before = logging.getLogRecordFactory()
    privacy = LogPrivacy()
    privacy.load(None)
    yield privacy
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    "message",
    [
        f"Bad HTTP request line: {f'GET {MARK}'.encode()!r}",
        f"Invalid header line: {f'authorization {MARK}'.encode()!r}",
        f"unexpected server response: {bytearray(MARK.encode())!r}",
        f"HTTP/1 protocol error: illegal chunk header: {bytearray(MARK.encode())!r}",
        f"multiple content-length headers: {[MARK.encode()]!r}",
        f"Deferring layer decision, not enough data: {MARK.encode().hex()!r}",
        f">> {events.DataReceived(tflow.tclient_conn(), MARK.encode())!r}",
        f'unknown transfer-encoding header: "it\'s {MARK}"',
    ],
)
def test_log_redaction_withholds_quotes_in_mitmproxys_lines(
    privacy: LogPrivacy, caplog: pytest.LogCaptureFixture, message: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("mitmproxy.proxy.server").info(message)
    [record] = caplog.records
    assert MARK not in caplog.text
    assert MARK.encode().hex() not in caplog.text
    assert record.getMessage().startswith(message[:10])
    assert "withheld" in record.getMessage()


def test_log_redaction_keeps_unquoted_lines_and_the_addons_own(
    privacy: LogPrivacy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("mitmproxy.proxy.server").info("server connect 10.0.0.1:8000")
        logging.getLogger("addons.signing.signer").info("it's %s", "fine")
    assert [record.getMessage() for record in caplog.records] == ["server connect 10.0.0.1:8000", "it's fine"]


@pytest.mark.parametrize("name", ["mitmproxy.addonmanager", "asyncio", "addons.pages.attestation_pages", "anything"])
def test_log_redaction_exceptions_keep_type_and_location_and_lose_the_message(
    privacy: LogPrivacy, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    try:
        raise ValueError(f"cannot parse {MARK}")
    except ValueError as error:
        with caplog.at_level(logging.DEBUG):
            logging.getLogger(name).error(f"Addon error: {error}", exc_info=True)
    assert MARK not in caplog.text
    assert "ValueError" in caplog.text
    assert "test_log_redaction.py" in caplog.text
    assert caplog.records[0].exc_info is None


def test_log_redaction_sanitises_a_flows_error(privacy: LogPrivacy) -> None:
    flow = tflow.tflow(err=mitm_flow.Error(f"unexpected server response: {MARK.encode()!r}"))
    privacy.error(flow)
    assert flow.error is not None
    assert MARK not in flow.error.msg
    assert flow.error.msg.startswith("unexpected server response: ")


def test_log_redaction_loaded_twice_is_installed_once(privacy: LogPrivacy) -> None:
    installed = logging.getLogRecordFactory()
    LogPrivacy().load(None)
    assert logging.getLogRecordFactory() == installed


def test_log_redaction_keeps_startup_lines_about_ports(privacy: LogPrivacy, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("mitmproxy.addons.proxyserver").error("failed to listen; try `-p 1` or 'that'")
    assert "or 'that'" in caplog.text
