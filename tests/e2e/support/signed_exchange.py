"""Checks that an exchange was signed according to the wire contract."""

from tests.e2e.support.processes import Proxy
from tests.e2e.support.raw_client import Asker
from tests.e2e.support.recording_transport import Wire
from tests.support import verification


def check_signatures(proxy: Proxy, response_id: str | None, wire: Wire) -> None:
    """Both signatures, under the id and under the receipt, from both ports, hold for the bytes of the wire.

    Args:
        proxy: What has signed.
        response_id: The answer's id; None where answers of this kind have none.
        wire: What went over the wire.
    """
    ids = [wire.headers["x-receipt-id"]]
    if response_id is not None:
        ids.append(response_id)
    answers = []
    for port in (proxy.port, proxy.side_port):
        with Asker(port) as asker:
            for stored_id in ids:
                for algo in ("ecdsa", "ed25519"):
                    status, answer = asker.signature(stored_id, algo)
                    assert status == 200, answer
                    verification.check(answer, wire.request, wire.response)
                    answers.append((algo, tuple(answer.items())))
    assert len(answers) == 4 * len(ids)
    assert len(set(answers)) == 2
