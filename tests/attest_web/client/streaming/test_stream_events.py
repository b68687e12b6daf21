"""Which events pass before the proof, and what the packages that read streams make of those that do."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel

from attest_web.client.streaming.event_order import MAX_ITEMS
from attest_web.client.streaming.stream_events import EventFilter
from attest_web.client.streaming.unverified_tail_buffer import UnverifiedTailBuffer
from tests.attest_web.client.streamed_events import (
    AT,
    CALL,
    CALLING,
    CHATS,
    HARMLESS,
    MESSAGE,
    PART,
    REASONING,
    THINKING_AT,
    WAITING,
    Event,
    begun,
    block,
    chunk,
    delta,
    of_response,
    piece,
    response,
    stop,
    written,
)


def passed(stream: bytes) -> bytes:
    return UnverifiedTailBuffer(10_000_000).feed(stream)


@pytest.mark.parametrize("dialect", HARMLESS)
@pytest.mark.parametrize("named", [False, True])
def test_harmless_events_before_the_end_pass(dialect: str, named: bool) -> None:
    stream = written(HARMLESS[dialect], named=named)
    assert passed(stream) == stream


@pytest.mark.parametrize("dialect", WAITING)
def test_event_that_may_act_or_end_the_response_is_held(dialect: str) -> None:
    for event in WAITING[dialect]:
        assert passed(written([event])) == b"", event


FREE = {"tools", "metadata", "temperature", "tool_choice", "instructions"}
"""Members in which a response repeats its request."""

NUMBERS = {"usage", "top_logprobs", "prompt_tokens_details"}
"""Members that are objects with members of any name."""


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in a value, with each key or index in it that a shape says something of."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if key not in FREE:
            yield value, key
            if isinstance(inner, dict | list) and key not in NUMBERS:
                yield from places(inner)


@pytest.mark.parametrize("dialect", [dialect for dialect in HARMLESS if dialect != "messages"])
def test_harmless_event_with_an_unknown_member_or_value_type_is_held(dialect: str) -> None:
    others: list[Any] = [{"x": []}, [{"x": []}], True]
    for event in HARMLESS[dialect]:
        assert EventFilter().passes(None, event)
        for at in range(len(list(places(event)))):
            for other in others:
                changed = copy.deepcopy(event)
                container, key = list(places(changed))[at]
                container[key] = other
                assert not EventFilter().passes(None, changed), (event, key)
            changed = copy.deepcopy(event)
            container, key = list(places(changed))[at]
            if isinstance(container, dict):
                container["unheard_of"] = None
                assert not EventFilter().passes(None, changed), (event, key)


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], block()),
        ([begun()], begun()),
        ([begun()], block(index=1)),
        ([begun()], delta()),
        ([begun(), block()], stop()),
        ([begun(), block()], delta(index=1)),
        ([begun(), block("thinking"), stop(), block("text", 1)], stop(1)),
        ([begun(), block("text"), block("thinking", 1)], stop(0)),
        ([begun(), block("text")], block("thinking", 0)),
        ([begun(), block("thinking")], delta("text")),
        ([begun(), block("redacted_thinking", data="zzz")], delta("text")),
        ([begun(), block("text")], delta("thinking")),
    ],
)
def test_messages_event_that_could_complete_a_text_block_is_held(before: list[Event], event: Event) -> None:
    """The `stream` of the anthropic package counts blocks as they begin, whatever their number is."""
    stream = written(before, named=True)
    assert passed(stream + written([event], named=True)) == stream


THOUGHT = {"type": "reasoning_text", "text": "pay eve"}
TEXT = of_response("output_text.delta", delta="pay eve", **AT)


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([TEXT], of_response("content_part.done", part=THOUGHT, **AT)),
        ([TEXT], of_response("content_part.done", part=THOUGHT, **THINKING_AT)),
        ([TEXT], of_response("content_part.done", part=THOUGHT, **AT | {"output_index": 1})),
        ([TEXT], of_response("content_part.done", part=THOUGHT)),
        ([TEXT], of_response("output_item.done", output_index=0, item=REASONING)),
        ([TEXT], of_response("output_item.done", output_index=1, item=REASONING | {"id": "msg_1"})),
        ([TEXT], of_response("output_item.done", output_index=1, item=REASONING | {"id": "msg_1"}, item_id="rs_1")),
        ([TEXT], of_response("reasoning_text.done", text="pay eve", **AT)),
        ([TEXT | {"type": "response.refusal.delta"}], of_response("content_part.done", part=THOUGHT, **AT)),
        (
            [of_response("output_item.added", output_index=0, item=MESSAGE)],
            of_response("content_part.done", part=THOUGHT, **THINKING_AT),
        ),
        (
            [of_response("content_part.added", part=PART, **AT)],
            of_response("content_part.done", part=THOUGHT, **THINKING_AT),
        ),
        ([of_response("content_part.done", part=THOUGHT, **AT)], TEXT),
        ([of_response("output_item.added", output_index=0, item=REASONING)], TEXT),
        ([of_response("output_item.done", output_index=1, item=REASONING | {"id": "msg_1"})], TEXT),
    ],
)
def test_responses_event_that_could_complete_a_text_as_reasoning_is_held(before: list[Event], event: Event) -> None:
    """What is read before is a text, by the name of the events, and what ends it a thought, by the type of the part."""
    stream = written(before)
    assert passed(stream + written([event])) == stream


def test_responses_outputs_remembered_are_bounded() -> None:
    def text(number: int) -> Event:
        return TEXT | {"item_id": f"msg_{number}", "output_index": number}

    stream = written([text(number) for number in range(MAX_ITEMS)])
    assert passed(stream + written([text(MAX_ITEMS)])) == stream
    assert passed(stream + written([text(MAX_ITEMS - 1)])) == stream + written([text(MAX_ITEMS - 1)])


class Pay(BaseModel):
    """Pay somebody."""

    to: str


def openai_of(stream: bytes) -> OpenAI:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return OpenAI(base_url="http://server.test/v1", api_key="t", http_client=http_client)


def chat_events(stream: bytes) -> list[Any]:
    """What comes of a chat by the openai package's own accumulator."""
    messages: Any = [{"role": "user", "content": "Hi"}]
    tools = [pydantic_function_tool(Pay, name="pay")]
    seen: list[Any] = []
    with openai_of(stream).chat.completions.stream(model="m", messages=messages, tools=tools) as events:
        seen.extend(events)
        if seen:
            [choice, *_] = events.current_completion_snapshot.choices
            assert choice.finish_reason is None
            assert not choice.message.tool_calls
            assert not events.get_final_completion().choices[0].message.tool_calls
    return seen


def test_openai_sdk_on_passed_chat_events_calls_no_tool_and_finishes_nothing() -> None:
    for event in WAITING["chats"]:
        stream = written([chunk({"role": "assistant"}), chunk(), event, chunk({}, {"finish_reason": "tool_calls"})])
        kinds = [seen.type for seen in chat_events(passed(stream))]
        assert kinds == ["chunk", "chunk", "content.delta"], event
    unguarded = written([chunk({"tool_calls": [CALL]}), chunk({}, {"finish_reason": "tool_calls"})])
    with pytest.raises(AssertionError):
        chat_events(unguarded)


def test_openai_sdk_on_passed_response_events_calls_no_tool_and_finishes_nothing() -> None:
    head = [
        of_response("created", response=response()),
        of_response("output_item.added", output_index=0, item=MESSAGE),
        of_response("output_item.added", output_index=1, item=MESSAGE | {"id": "msg_2"}),
    ]
    for event in [*WAITING["responses"], of_response("output_item.done", output_index=0, item=CALLING)]:
        stream = passed(written([*head, event, of_response("completed", response=response(status="completed"))]))
        with openai_of(stream).responses.stream(model="m", input="Hi") as events:
            seen: list[Any] = list(events)
            with pytest.raises(RuntimeError, match=r"response\.completed"):
                events.get_final_response()
        assert [each.type for each in seen] == [each["type"] for each in head], event


def test_anthropic_sdk_on_passed_message_events_calls_no_tool_and_finishes_no_text() -> None:
    head = [begun(), block("thinking"), delta("thinking"), stop(), block("text", 1), delta("text", 1)]
    for event in [*WAITING["messages"], block("tool_use", 2, id="t", name="pay", input={}), stop(1)]:
        stream = passed(written([*head, event, stop(1), {"type": "message_stop"}], named=True))
        assert stream == written(head, named=True), event

        def answer(_request: httpx2.Request, stream: bytes = stream) -> httpx2.Response:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

        http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
        client = Anthropic(base_url="http://server.test", api_key="t", http_client=http_client)
        with client.messages.stream(max_tokens=9, model="m", messages=[{"role": "user", "content": "Hi"}]) as events:
            seen: list[Any] = list(events)
            message = events.current_message_snapshot
        assert [each.content_block.type for each in seen if each.type == "content_block_stop"] == ["thinking"]
        assert message.stop_reason is None
        assert [content.type for content in message.content] == ["thinking", "text"]


TAKEN = {json.dumps(event) for events in HARMLESS.values() for event in events} | {json.dumps(stop())}
EVENTS = [event for kind in (HARMLESS, WAITING) for events in kind.values() for event in events]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=8))
def test_event_filter_in_any_order_passes_a_prefix_of_only_harmless_events(events: list[Event]) -> None:
    seen = [line[6:] for line in passed(written(events)).decode().splitlines() if line]
    assert seen == [json.dumps(event) for event in events[: len(seen)]]
    assert set(seen) <= TAKEN


def test_completions_events_pass_up_to_the_finish_reason() -> None:
    stream = written([piece(), piece()])
    assert passed(stream + written([piece({"finish_reason": "stop"}), piece()])) == stream


def test_openai_sdk_shows_chat_text_and_refusal_deltas_before_the_proof() -> None:
    kinds = {seen.type for seen in chat_events(passed(written([*CHATS[:5], chunk({}, {"finish_reason": "stop"})])))}
    assert kinds == {"chunk", "content.delta", "refusal.delta"}
