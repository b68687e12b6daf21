"""How many reports one client may wait for at once, as the page tells clients apart."""

import threading
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from attest_web.attestation.report_cache import MAX_MAKING, MAX_PER_CLIENT, MAX_PER_STRANGER
from attest_web.dstack.guest_agent import Quote
from tests.attest_web.conftest import AUTHORIZED, Evidence
from tests.support.limits import limit

PROXY, OUTSIDE = "10.0.0.1", "203.0.113.9"


@pytest.mark.parametrize(
    ("public", "peer", "headers", "share"),
    [
        (False, OUTSIDE, {}, MAX_PER_CLIENT),
        (False, PROXY, {"X-Forwarded-For": "198.51.100.7"}, MAX_PER_CLIENT),
        (False, PROXY, {"X-Real-IP": "198.51.100.7"}, MAX_PER_CLIENT),
        (False, PROXY, {}, MAX_MAKING),  # it may ask for many clients
        (True, OUTSIDE, {}, MAX_PER_STRANGER),
        (True, PROXY, {"X-Real-IP": "198.51.100.7"}, MAX_PER_STRANGER),
        (True, PROXY, {}, MAX_PER_STRANGER),
    ],
)
def test_report_requests_of_one_client_over_its_share_get_429(
    make_client: Callable[..., FlaskClient],
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
    *,
    public: bool,
    peer: str,
    headers: dict[str, str],
    share: int,
) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def quote(report_data: bytes) -> Quote:
        begun.release()
        assert go.wait(limit())
        return Quote(report_data.hex(), [], "{}")

    monkeypatch.setattr(evidence, "quote", quote)
    app = make_client(public=public).application
    statuses: list[int] = []

    def ask(number: int) -> int:
        return (
            app.test_client()
            .get(
                f"/v1/attestation/report?nonce={number:064x}",
                headers={**headers, **({} if public else AUTHORIZED)},
                environ_base={"REMOTE_ADDR": peer},
            )
            .status_code
        )

    threads = [threading.Thread(target=lambda n=n: statuses.append(ask(n))) for n in range(share)]
    for thread in threads:
        thread.start()
        assert begun.acquire(timeout=limit())
    assert ask(share) == 429
    go.set()
    for thread in threads:
        thread.join(limit())
    assert statuses == [200] * share
