"""An allow-list, by shape, of the events that are released before the stream is proven.

An event passes if no application acts on it: a delta of text, of a refusal, or of reasoning, with ids, roles, indexes
and counts; the start of a response or of an empty part; a ping. Any other event is held back until the proof: tool
calls and their deltas, `finish_reason`, a text that is marked complete, annotations, unknown types and members.

The dialects are those of OpenAI's chat, completions and Responses API, which vLLM and SGLang implement as well
(https://platform.openai.com/docs/api-reference), and of Anthropic's Messages
(https://docs.anthropic.com/en/api/messages-streaming).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from attest_web.client.streaming.event_order import BlockOrder, ItemOrder
from attest_web.client.streaming.shapes import (
    Shape,
    anything,
    count,
    either,
    empty,
    filled_list_of,
    list_of,
    literal,
    members,
    null,
    number,
    optional,
    text,
    values_of,
)

_AMOUNTS = values_of(optional(number))
_USAGE = either(null, values_of(optional(either(number, _AMOUNTS))))
_TOKENS = optional(list_of(count))
_TOP_LOGPROB = members({"token": text, "logprob": optional(number), "bytes": _TOKENS})
_LOGPROBS = optional(
    list_of(
        members(
            {
                "token": text,
                "logprob": optional(number),
                "bytes": _TOKENS,
                "top_logprobs": optional(list_of(_TOP_LOGPROB)),
            }
        )
    )
)

_DELTA = members(
    {
        "role": optional(literal("assistant", "")),
        "content": optional(text),
        "refusal": optional(text),
        "reasoning": optional(text),
        "reasoning_content": optional(text),
        "tool_calls": either(null, empty),
        "function_call": null,
        "audio": null,
        "annotations": either(null, empty),
    }
)
_CHOICE = members(
    {
        "index": count,
        "delta": _DELTA,
        "text": text,
        "finish_reason": null,
        "stop_reason": null,
        "matched_stop": null,
        "logprobs": optional(
            either(
                members({"content": _LOGPROBS, "refusal": _LOGPROBS}),
                members(
                    {
                        "tokens": list_of(text),
                        "token_logprobs": list_of(optional(number)),
                        "top_logprobs": optional(list_of(optional(values_of(optional(number))))),
                        "text_offset": list_of(count),
                    }
                ),
            )
        ),
        "token_ids": _TOKENS,
        "prompt_token_ids": _TOKENS,
        "prompt_logprobs": null,
    }
)
_CHUNK_HEAD = {
    "id": text,
    "object": literal("chat.completion.chunk", "text_completion", "transcription.chunk", "translation.chunk"),
    "created": number,
    "model": optional(text),
    "provider": text,
    "system_fingerprint": optional(text),
    "service_tier": optional(text),
    "obfuscation": text,
    "error": null,
    "moderation": null,
    "prompt_token_ids": _TOKENS,
    "prompt_logprobs": null,
    "kv_transfer_params": null,
}
CHUNK: Final = either(
    members(_CHUNK_HEAD | {"choices": list_of(_CHOICE), "usage": null}, "choices"),
    # Without choices, the usage covers the whole stream, and marks its end.
    members(_CHUNK_HEAD | {"choices": filled_list_of(_CHOICE), "usage": _USAGE}, "choices"),
)
"""A chunk of a chat or a completion, which has no `type`."""

_ECHO = (
    *("background", "conversation", "frequency_penalty", "instructions", "max_output_tokens", "max_tool_calls"),
    *("metadata", "parallel_tool_calls", "presence_penalty", "previous_response_id", "prompt", "prompt_cache_key"),
    *("prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text"),
    *("tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
)
"""Members of a response that repeat its request."""

_BEGUN = members(
    dict.fromkeys(_ECHO, anything)
    | {
        "id": text,
        "object": literal("response"),
        "created_at": number,
        "model": optional(text),
        "status": literal("queued", "in_progress"),
        "output": either(null, empty),
        "output_text": either(null, literal("")),
        "usage": _USAGE,
        "error": null,
        "incomplete_details": null,
        "completed_at": null,
        "moderation": null,
        "input_messages": null,
        "output_messages": null,
        "kv_transfer_params": null,
    }
)
_SUMMARY_TEXT = members({"type": literal("summary_text"), "text": text}, "type")
_REASONING_TEXT = members({"type": literal("reasoning_text"), "text": text}, "type")
_REASONING = members(
    {
        "id": text,
        "type": literal("reasoning"),
        "status": optional(literal("in_progress", "completed", "incomplete")),
        "summary": optional(list_of(_SUMMARY_TEXT)),
        "content": optional(list_of(_REASONING_TEXT)),
        "encrypted_content": optional(text),
    },
    "type",
)
_EMPTY_MESSAGE = members(
    {
        "id": text,
        "type": literal("message"),
        "role": literal("assistant"),
        "status": optional(literal("in_progress")),
        "content": empty,
        "phase": optional(literal("commentary", "final_answer")),
    },
    "type",
)
_EMPTY_PART = either(
    members(
        {
            "type": literal("output_text"),
            "text": literal(""),
            "annotations": either(null, empty),
            "logprobs": either(null, empty),
        },
        "type",
    ),
    members({"type": literal("refusal"), "refusal": literal("")}, "type"),
    _REASONING_TEXT,
)


_AROUND: Mapping[str, Shape] = MappingProxyType(
    {
        "type": text,
        "sequence_number": count,
        "item_id": text,
        "output_index": count,
        "content_index": count,
        "summary_index": count,
        "obfuscation": text,
        "logprobs": _LOGPROBS,
        "status": null,
    }
)


def _of_responses(**more: Shape) -> Shape:
    return members({**_AROUND, **more}, *more)


def _of_messages(**more: Shape) -> Shape:
    return members({"type": text} | more, *more)


_EMPTY_ANTHROPIC_MESSAGE = members(
    {
        "id": text,
        "type": literal("message"),
        "role": literal("assistant"),
        "model": text,
        "content": empty,
        "stop_reason": null,
        "stop_sequence": null,
        "stop_details": null,
        "container": null,
        "context_management": null,
        "diagnostics": null,
        "usage": optional(values_of(optional(either(number, text, _AMOUNTS)))),  # its service_tier is a string
    }
)
_TEXT_BLOCK = members({"type": literal("text"), "text": text, "citations": either(null, empty)}, "type")
_THINKING_BLOCK = either(
    members({"type": literal("thinking"), "thinking": text, "signature": text}, "type"),
    members({"type": literal("redacted_thinking"), "data": text}, "type"),
)
_BLOCK_DELTA = either(
    members({"type": literal("text_delta"), "text": text}, "type"),
    members({"type": literal("thinking_delta"), "thinking": text}, "type"),
    members({"type": literal("signature_delta"), "signature": text}, "type"),
)

_BY_TYPE: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        "response.created": _of_responses(response=_BEGUN),
        "response.queued": _of_responses(response=_BEGUN),
        "response.in_progress": _of_responses(response=_BEGUN),
        "response.output_item.added": _of_responses(item=either(_EMPTY_MESSAGE, _REASONING)),
        "response.output_item.done": _of_responses(item=_REASONING),
        "response.content_part.added": _of_responses(part=_EMPTY_PART),
        "response.content_part.done": _of_responses(part=_REASONING_TEXT),
        "response.output_text.delta": _of_responses(delta=text),
        "response.refusal.delta": _of_responses(delta=text),
        "response.reasoning_text.delta": _of_responses(delta=text),
        "response.reasoning_text.done": _of_responses(text=text),
        "response.reasoning_part.added": _of_responses(part=_REASONING_TEXT),
        "response.reasoning_part.done": _of_responses(part=_REASONING_TEXT),
        "response.reasoning_summary_part.added": _of_responses(part=_SUMMARY_TEXT),
        "response.reasoning_summary_part.done": _of_responses(part=_SUMMARY_TEXT),
        "response.reasoning_summary_text.delta": _of_responses(delta=text),
        "response.reasoning_summary_text.done": _of_responses(text=text),
        "transcript.text.delta": members({"type": text, "delta": text, "logprobs": _LOGPROBS, "segment_id": text}),
        "keepalive": members({"type": text, "sequence_number": count}),
        "ping": members({"type": text}),
        "message_start": _of_messages(message=_EMPTY_ANTHROPIC_MESSAGE),
        "content_block_start": _of_messages(index=count, content_block=either(_TEXT_BLOCK, _THINKING_BLOCK)),
        "content_block_delta": _of_messages(index=count, delta=_BLOCK_DELTA),
        "content_block_stop": _of_messages(index=count),
    }
)


class EventFilter:
    """Decides for each event of one stream, in order, whether it may be released before the stream is proven."""

    def __init__(self) -> None:
        self._blocks = BlockOrder()
        self._items = ItemOrder()

    def passes(self, name: str | None, event: dict[str, Any]) -> bool:
        """Whether an event may be released.

        Args:
            name: The SSE event's `event` field; None without one.
            event: Its data, in which no object has two members of one name.
        """
        if "type" not in event:
            return name is None and CHUNK(event)
        kind = event["type"]
        if not isinstance(kind, str) or name not in (None, kind):
            return False
        shape = _BY_TYPE.get(kind)
        return shape is not None and shape(event) and self._in_order(kind, event)

    def _in_order(self, kind: str, event: dict[str, Any]) -> bool:
        if kind.startswith("response."):
            return self._items.takes(kind, event)
        if kind.startswith(("message_", "content_block_")):
            return self._blocks.takes(kind, event)
        return True
