"""Whoever has the last byte and asks for the signature at once gets it."""

import json
import time

import pytest

from tests.e2e.support.processes import running_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.e2e.support.scripted_upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Peer,
    ScriptedUpstream,
    chunk,
    events,
    json_response,
)

TIMES = 200
PAUSE = 0.003
"""Seconds before an answer's end. A proxy that lets `[DONE]` go too early loses the race by as much."""


def stream_whose_end_comes_late(peer: Peer) -> None:
    """`[DONE]` comes in a packet of its own, and the end of the message in the next one."""
    while (received := peer.read_request()) is not None:
        chat_id = json.loads(received.body)["user"]
        peer.send(SSE_HEAD)
        for event in events(chat_id, "a", "b"):
            peer.send(chunk(event))
        time.sleep(PAUSE)
        peer.send(LAST_CHUNK)


def json_in_two_parts(peer: Peer) -> None:
    while (received := peer.read_request()) is not None:
        answer = json.dumps({"id": json.loads(received.body)["user"], "choices": []}).encode()
        response = json_response(answer)
        peer.send(response[:-1])
        time.sleep(PAUSE)
        peer.send(response[-1:])


@pytest.mark.timeout(120)
def test_signature_of_a_stream_is_available_when_done_arrives() -> None:
    found = 0
    with ScriptedUpstream(stream_whose_end_comes_late) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client, Asker(proxy.port) as asker:
            for number in range(TIMES):
                chat_id = f"chatcmpl-{number}"
                client.send(chat_request(chat_body(user=chat_id, stream=True)))
                client.read_until(b"[DONE]")
                status, _ = asker.signature(chat_id)
                found += status == 200
                client.read_until(LAST_CHUNK)
    assert found == TIMES


@pytest.mark.timeout(120)
def test_signature_of_a_json_response_is_available_when_its_last_byte_arrives() -> None:
    found = 0
    with ScriptedUpstream(json_in_two_parts) as upstream, running_proxy(upstream.url) as proxy:
        with RawClient(proxy.port) as client, Asker(proxy.side_port) as asker:
            for number in range(TIMES):
                chat_id = f"chatcmpl-{number}"
                client.send(chat_request(chat_body(user=chat_id)))
                client.read_until(b'"choices": []}')
                status, _ = asker.signature(chat_id)
                found += status == 200
    assert found == TIMES
