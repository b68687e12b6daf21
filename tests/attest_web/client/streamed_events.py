"""Events of each dialect: those that may be read before a stream is proven, and those that wait."""

import json
from typing import Any

Event = dict[str, Any]

CALL = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "pay", "arguments": '{"to":"eve"}'}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
_LOGPROB = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}


def chunk(delta: Event | None = None, choice: Event | None = None, **more: Any) -> Event:
    """A chunk of a chat."""
    inner = {"index": 0, "delta": delta if delta is not None else {"content": "x"}, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return head | {"choices": [inner | (choice or {})]} | more


def piece(choice: Event | None = None, **more: Any) -> Event:
    """A chunk of a completion."""
    inner = {"index": 0, "text": "x", "logprobs": None, "finish_reason": None, "stop_reason": None}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "choices": [inner | (choice or {})]} | more


def response(**more: Any) -> Event:
    """A response that has begun."""
    settings = {
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [{"type": "function", "name": "pay"}],
        "metadata": {},
    }
    begun = {"id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": "m", "output": []}
    return settings | begun | {"error": None, "incomplete_details": None, "usage": None, "instructions": "Hi"} | more


def of_response(kind: str, **more: Any) -> Event:
    """An event of the Responses API."""
    return {"type": f"response.{kind}", "sequence_number": 1} | more


AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
THINKING_AT = AT | {"item_id": "rs_1"}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
PART: Event = {"type": "output_text", "text": "", "annotations": [], "logprobs": None}
CALLING = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c",
    "name": "pay",
    "arguments": "{}",
    "status": "completed",
}


def begun(**more: Any) -> Event:
    """The event with which Anthropic's message begins."""
    usage = {"input_tokens": 1, "output_tokens": 0, "service_tier": "standard", "cache_creation": {"x": 0}}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    return {"type": "message_start", "message": head | {"stop_reason": None, "stop_sequence": None} | more}


def block(kind: str = "text", index: int = 0, **more: Any) -> Event:
    """The beginning of a block of it."""
    content = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}}.get(kind, {})
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind} | content | more}


def delta(kind: str = "text", index: int = 0, **more: Any) -> Event:
    """A piece of one."""
    inner = {"type": f"{kind}_delta"} | ({kind: "x"} if kind in ("text", "thinking", "signature") else {})
    return {"type": "content_block_delta", "index": index, "delta": inner | more}


def stop(index: int = 0) -> Event:
    """Its end."""
    return {"type": "content_block_stop", "index": index}


CHATS: list[Event] = [
    chunk({"role": "assistant", "content": ""}),
    chunk(),
    chunk({"reasoning_content": "hm", "content": None}),
    chunk({"reasoning": "hm"}),
    chunk({"refusal": "no"}),
    chunk({"content": "x", "tool_calls": [], "function_call": None}, {"stop_reason": None, "token_ids": None}),
    chunk(
        choice={
            "logprobs": {"content": [_LOGPROB | {"top_logprobs": [_LOGPROB | {"bytes": None}][:0]}], "refusal": None}
        }
    ),
    chunk(usage=None, system_fingerprint=None, service_tier=None),
    chunk(usage=USAGE),
    chunk(choices=[], usage=None),
    chunk(choice={"index": 1}),
]
COMPLETIONS: list[Event] = [
    piece(),
    piece(usage=USAGE),
    piece({"logprobs": {"tokens": ["x"], "token_logprobs": [None], "top_logprobs": [{"x": -1}], "text_offset": [0]}}),
]
RESPONSES: list[Event] = [
    of_response("created", response=response()),
    of_response("in_progress", response=response()),
    of_response("output_item.added", output_index=0, item=REASONING | {"content": None}),
    of_response("reasoning_text.delta", delta="hm", **THINKING_AT),
    of_response("reasoning_text.done", text="hm", **THINKING_AT),
    of_response("reasoning_summary_part.added", part={"type": "summary_text", "text": ""}, summary_index=0),
    of_response("reasoning_summary_text.delta", delta="hm", summary_index=0, obfuscation="y"),
    of_response("content_part.done", part={"type": "reasoning_text", "text": "hm"}, **THINKING_AT),
    of_response("output_item.done", output_index=0, item=REASONING),
    of_response("output_item.added", output_index=1, item=MESSAGE),
    of_response("content_part.added", part=PART, **AT | {"output_index": 1}),
    of_response("output_text.delta", delta="x", logprobs=[], **AT | {"output_index": 1}),
    of_response("refusal.delta", delta="no", **AT | {"output_index": 1}),
    {"type": "keepalive", "sequence_number": 3},
]
MESSAGES: list[Event] = [
    begun(),
    {"type": "ping"},
    block("thinking"),
    delta("thinking"),
    delta("signature"),
    stop(),
    block("redacted_thinking", 1, data="zzz"),
    stop(1),
    block("text", 2),
    delta("text", 2),
]
TRANSCRIPTS: list[Event] = [{"type": "transcript.text.delta", "delta": "x"}]
HARMLESS = {
    "chats": CHATS,
    "completions": COMPLETIONS,
    "responses": RESPONSES,
    "messages": MESSAGES,
    "transcripts": TRANSCRIPTS,
}
"""Streams up to where they wait, by dialect."""

WAITING: dict[str, list[Event]] = {
    "chats": [
        chunk({}, {"finish_reason": "stop"}),
        chunk({}, {"finish_reason": ""}),
        chunk({}, {"finish_reason": False}),
        chunk({"tool_calls": [CALL]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
        chunk({"tool_calls": {"0": CALL}}),
        chunk({"function_call": {"name": "pay", "arguments": "{}"}}),
        chunk({"content": [{"type": "text", "text": "x"}]}),
        chunk({"role": "tool"}),
        chunk({"Tool_Calls": [CALL]}),
        chunk({"audio": {"id": "a", "data": "zzz"}}),
        chunk({"annotations": [{"type": "url_citation"}]}),
        chunk(choice={"message": {"role": "assistant", "tool_calls": [CALL]}}),
        chunk(choice={"stop_reason": 7}),
        chunk(choice={"index": -1}),
        chunk(choice={"index": True}),
        chunk(choice={"index": 1e300}),
        chunk(choices={}),
        chunk(choices=None),
        chunk(tool_calls=[CALL]),
        chunk(message={"tool_calls": [CALL]}),
        chunk(object="chat.completion"),
        chunk(error={"message": "no"}),
        chunk(type="response.completed"),
        chunk(type=None),
        chunk(usage=[]),
        chunk(choices=[], usage=USAGE),
        chunk(choices=[], usage={}),
        chunk(usage={"prompt_tokens": "many"}),
        chunk(created=float("nan")),
        {"id": "chatcmpl-1"},
        {},
    ],
    "completions": [piece({"finish_reason": "length"}), piece({"text": ["x"]}), piece({"tool_calls": [CALL]})],
    "responses": [
        of_response("created", response=response(status="completed")),
        of_response("created", response=response(output=[CALLING])),
        of_response("in_progress", response=response(output=[REASONING])),
        of_response("in_progress", response=response(output_text="x")),
        of_response("queued", response=response(required_action={"type": "submit_tool_outputs"})),
        of_response("created", response=response(), item=CALLING),
        of_response("created", response=None),
        of_response("created"),
        *(
            of_response(f"output_item.{when}", output_index=0, item={"type": kind, "status": "completed"} | CALLING)
            for when in ("added", "done")
            for kind in ("mcp_approval_request", "custom_tool_call", "shell_call", "computer_call", "unheard_of")
        ),
        of_response("output_item.added", output_index=0, item=CALLING | {"arguments": ""}),
        of_response("output_item.added", output_index=0, item=MESSAGE | {"content": [PART | {"text": "x"}]}),
        of_response("output_item.added", output_index=0, item=MESSAGE | {"status": "completed"}),
        of_response("output_item.added", output_index=0, item=MESSAGE | {"tool_calls": [CALL]}),
        of_response("output_item.added", output_index=0, item=None),
        of_response("output_item.added", output_index=0, item=REASONING | {"name": "pay"}),
        of_response("output_item.done", output_index=0, item=MESSAGE),
        of_response("content_part.added", part=PART | {"text": "x"}, **AT),
        of_response("content_part.added", part=PART | {"annotations": [{"type": "file_path"}]}, **AT),
        of_response("content_part.done", part=PART, **AT),
        of_response("output_text.done", text="x", **AT),
        of_response("output_text.annotation.added", annotation={}, **AT),
        of_response("refusal.done", refusal="x", **AT),
        of_response("function_call_arguments.delta", delta="{", **AT),
        of_response("function_call_arguments.done", arguments="{}", **AT),
        of_response("mcp_call_arguments.done", arguments="{}", **AT),
        of_response("custom_tool_call_input.delta", delta="x", **AT),
        of_response("shell_call_command.done", command="rm", **AT),
        of_response("output_text.delta", delta={"name": "pay"}, **AT),
        of_response("output_text.delta", delta="x", item=CALLING, **AT),
        of_response("completed", response=response()),
        of_response("incomplete", response=response()),
        of_response("failed", response=response()),
        of_response("reasoning_unheard_of.done", text="x"),
        {"type": "error", "message": "no"},
        {"type": "thread.run.requires_action"},
        {"type": ["response.created"], "response": response()},
    ],
    "messages": [
        begun(stop_reason="tool_use"),
        begun(content=[{"type": "tool_use", "id": "t", "name": "pay", "input": {}}]),
        begun(role="user"),
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "pay", "input": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "input": {}}},
        delta("input_json", partial_json="{"),
        delta("citations", citation={}),
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
        {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
        {"type": "ping", "x": 1},
        stop(),
    ],
    "transcripts": [
        {"type": "transcript.text.done", "text": "x"},
        {"type": "speech.audio.delta", "audio": "zzz"},
        {"type": "image_generation.partial_image", "b64_json": "zzz"},
        {"type": "done"},
    ],
}
"""Events that wait at the beginning of a stream, by dialect."""


def written(events: list[Event], *, named: bool = False) -> bytes:
    """A stream of these; `named` has each event's type as its name, too, as the Responses API and Messages have it."""
    return b"".join(
        (b"event: %s\n" % str(each["type"]).encode() if named and "type" in each else b"")
        + b"data: %s\n\n" % json.dumps(each).encode()
        for each in events
    )
