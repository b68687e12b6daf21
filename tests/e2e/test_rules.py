"""Rules of mitmproxy's own that change requests: what is sent stays one request, and what was changed goes unsigned."""

import json

from tests.e2e.support.processes import running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import ScriptedUpstream, answering, json_response
from tests.support import verification
from tests.support.limits import limit

ANSWER = b'{"id":"chatcmpl-1"}'
RULES = (
    "--modify-body",
    "/~hq X-Rule:.body/hi/good evening",
    "--modify-headers",
    "/~q & ~hq X-Rule:.length/Content-Length/5",
    "--map-remote",
    "|~hq X-Rule:.path|/v1/chat/completions|/v1/completions",
)


def test_request_changed_by_a_rule_is_reframed_and_signed_only_if_still_intact() -> None:
    body = chat_body()
    expected = {
        "none": (body, True),
        "body": (body.replace(b"hi", b"good evening"), False),
        "length": (body, True),
        "path": (body, False),
    }
    with ScriptedUpstream(answering(lambda _: json_response(ANSWER))) as upstream:
        with running_proxy(upstream.url, *RULES, program="mitmdump") as proxy, Asker(proxy.port) as asker:
            for rule, (sent, is_signed) in expected.items():
                with RawClient(proxy.port) as client:
                    client.send(chat_request(body, X_Rule=rule))
                    status, headers, answer = client.read_response()
                assert (status, answer) == (200, ANSWER), rule
                assert upstream.requests.get(timeout=limit()).body == sent, rule
                assert upstream.requests.empty(), rule
                status, _, told = asker.get(f"/v1/signature/{headers['x-receipt-id']}")
                if is_signed:
                    verification.check(told, body, ANSWER)
                else:
                    assert (status, told["error"]["code"]) == (404, "not_signed"), json.dumps(told)
