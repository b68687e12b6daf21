import pytest

from addons.signing.stored_id import stored_id
from tests.addons.conftest import MakeFlow


@pytest.mark.parametrize(
    ("method", "path", "response_id", "stored"),
    [
        ("POST", "/v1/responses", "resp_1", True),
        ("POST", "/v1/chat/completions", "chatcmpl-/x/", True),
        ("POST", "/v1/other?x=/other/", "other", True),
        ("GET", "/v1/responses/resp_1", "resp_1", False),
        ("GET", "/v1/responses/resp_1/input_items", "resp_1", False),
        ("GET", "/v1/responses", "resp_1", False),
        ("HEAD", "/v1/responses/resp_1", "resp_1", False),
        ("DELETE", "/v1/responses/resp_1", "resp_1", False),
        ("post", "/v1/responses", "resp_1", False),
        ("POST", "/v1/responses/resp_1/cancel", "resp_1", False),
        ("POST", "/v1/responses/resp%5F1", "resp_1", False),
        ("POST", "/v1/responses/resp_12/cancel", "resp_1", True),
        ("POST", "/v1/threads/thread_1/runs", "run_1", True),
        ("POST", "/v1/chat/completions", "rcpt-000000000000000000000000", False),
        ("POST", "/v1/chat/completions", None, False),
    ],
)
def test_stored_id_is_the_response_id_only_if_the_request_created_the_response(
    make_flow: MakeFlow, method: str, path: str, response_id: str | None, stored: bool
) -> None:
    flow = make_flow(path=path)
    flow.request.data.method = method.encode()
    assert stored_id(flow.request, response_id) == (response_id if stored else None)
