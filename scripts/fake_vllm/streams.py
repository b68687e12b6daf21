"""What the stand-in model answers where the answer may be streamed: an echo, word by word, in each API's dialect."""

import abc
import itertools
import time
import uuid
from collections.abc import Iterator

from scripts.fake_vllm.errors import BadRequestError, JsonObject


class Answer(abc.ABC):
    """What the model says, and the objects it is wrapped in.

    Attributes:
        names_events: Whether each event of the stream has its type as its name, too.
        ends_with_done: Whether `data: [DONE]` is the last event.
        tokens: What the model says, piece by piece.
        cut_short: Whether the model had more to say than it was allowed to.
    """

    names_events = False
    ends_with_done = True
    limits: tuple[str, ...] = ("max_completion_tokens", "max_tokens")

    def __init__(self, model: str, length: int | None, request: JsonObject, request_id: str | None) -> None:
        """Make an answer.

        Args:
            model: Name of the served model.
            length: How many tokens an answer has; None for as many as the prompt has words.
            request: What was asked.
            request_id: What the client calls it; vLLM makes its ids of this.

        Raises:
            BadRequestError: vLLM would refuse the request.
        """
        self.model = model
        self.request = request
        self.unique = request_id or uuid.uuid4().hex
        self.created = int(time.time())
        words = self.prompt().split() or ["…"]
        wanted = length if length is not None else len(words)
        allowed = next((limit for name in self.limits if (limit := request.get(name))), wanted)
        count = min(wanted, allowed)
        self.cut_short = count < wanted
        self.prompt_tokens = len(words)
        self.tokens = [
            f" {word}" if at else word for at, word in enumerate(itertools.islice(itertools.cycle(words), count))
        ]

    @property
    def text(self) -> str:
        """All that the model says."""
        return "".join(self.tokens)

    @abc.abstractmethod
    def prompt(self) -> str:
        """The text to answer."""

    @abc.abstractmethod
    def whole(self) -> JsonObject:
        """The answer as one object."""

    @abc.abstractmethod
    def events(self) -> Iterator[JsonObject]:
        """The answer as the events of a stream, without a `[DONE]`, which is no JSON."""


class _Choices(Answer):
    """An answer that has choices: those of the older APIs."""

    id_prefix: str
    object: str
    chunk_object: str

    @abc.abstractmethod
    def choice(self, text: str) -> JsonObject:
        """The whole answer's choice."""

    @abc.abstractmethod
    def delta(self, token: str) -> JsonObject:
        """A token's part of a choice."""

    @property
    def head(self) -> JsonObject:
        """What the answer and every event of it begin with."""
        head = {"id": f"{self.id_prefix}-{self.unique}", "object": self.object}
        return head | {"created": self.created, "model": self.model}

    @property
    def usage(self) -> JsonObject:
        """What it has cost."""
        total = self.prompt_tokens + len(self.tokens)
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": total,
            "completion_tokens": len(self.tokens),
        }

    @property
    def finish_reason(self) -> str:
        """Why it ends."""
        return "length" if self.cut_short else "stop"

    def whole(self) -> JsonObject:
        choice = {"index": 0, **self.choice(self.text), "logprobs": None, "finish_reason": self.finish_reason}
        answer = self.head | {"choices": [choice | {"stop_reason": None}], "service_tier": None}
        return answer | {"system_fingerprint": None, "usage": self.usage | {"prompt_tokens_details": None}}

    def events(self) -> Iterator[JsonObject]:
        head = self.head | {"object": self.chunk_object}
        for token in self.tokens:
            yield head | {"choices": [{"index": 0, **self.delta(token), "logprobs": None, "finish_reason": None}]}
        last = {"index": 0, **self.delta(""), "logprobs": None, "finish_reason": self.finish_reason}
        yield head | {"choices": [last | {"stop_reason": None}]}
        if (self.request.get("stream_options") or {}).get("include_usage"):
            yield head | {"choices": [], "usage": self.usage}


class Chat(_Choices):
    """Of `POST /v1/chat/completions`."""

    id_prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def prompt(self) -> str:
        messages = _messages(self.request, "messages")
        if any(message.get("tool_calls") == [] for message in messages):
            raise BadRequestError("tool_calls: an empty list is not allowed")  # the defect that the proxy works around
        return _content_text(messages[-1].get("content"))

    def choice(self, text: str) -> JsonObject:
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None}
        return {"message": message | {"function_call": None, "tool_calls": [], "reasoning_content": None}}

    def delta(self, token: str) -> JsonObject:
        return {"delta": {"content": token}}

    def events(self) -> Iterator[JsonObject]:
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        yield self.head | {"object": self.chunk_object, "choices": [first]}
        yield from super().events()


class Completion(_Choices):
    """Of `POST /v1/completions`."""

    id_prefix = "cmpl"
    object = "text_completion"
    chunk_object = "text_completion"

    def prompt(self) -> str:
        prompt = self.request.get("prompt")
        if not isinstance(prompt, str):
            raise BadRequestError("prompt: a string is required")
        return prompt

    def choice(self, text: str) -> JsonObject:
        return {"text": text}

    def delta(self, token: str) -> JsonObject:
        return {"text": token}


class ModelResponse(Answer):
    """Of `POST /v1/responses`, OpenAI's Responses API."""

    names_events = True
    ends_with_done = False
    limits = ("max_output_tokens",)

    def prompt(self) -> str:
        given = self.request.get("input")
        return given if isinstance(given, str) else _content_text(_messages(self.request, "input")[-1].get("content"))

    def whole(self) -> JsonObject:
        return self._response(
            "incomplete" if self.cut_short else "completed", [self._message("completed", [self.text])]
        )

    def events(self) -> Iterator[JsonObject]:
        for number, event in enumerate(self._events()):
            yield event | {"sequence_number": number}

    def _events(self) -> Iterator[JsonObject]:
        at = {"item_id": f"msg_{self.unique}", "output_index": 0, "content_index": 0}
        item = {"output_index": 0}
        whole = self.whole()
        yield {"type": "response.created", "response": self._response("in_progress", [])}
        yield {"type": "response.in_progress", "response": self._response("in_progress", [])}
        yield {"type": "response.output_item.added", "item": self._message("in_progress", [])} | item
        yield {"type": "response.content_part.added", "part": self._part("")} | at
        for token in self.tokens:
            yield {"type": "response.output_text.delta", "delta": token, "logprobs": []} | at
        yield {"type": "response.output_text.done", "text": self.text, "logprobs": []} | at
        yield {"type": "response.content_part.done", "part": self._part(self.text)} | at
        yield {"type": "response.output_item.done", "item": whole["output"][0]} | item
        yield {"type": f"response.{whole['status']}", "response": whole}

    def _message(self, status: str, texts: list[str]) -> JsonObject:
        content = [self._part(text) for text in texts]
        message = {"id": f"msg_{self.unique}", "type": "message", "role": "assistant", "status": status}
        return message | {"content": content}

    @staticmethod
    def _part(text: str) -> JsonObject:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}

    def _response(self, status: str, output: list[JsonObject]) -> JsonObject:
        count = len(self.tokens)
        usage = {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": count,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt_tokens + count,
        }
        head = {"id": f"resp_{self.unique}", "object": "response", "created_at": self.created, "status": status}
        settings = {"temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [], "parallel_tool_calls": True}
        why = {"reason": "max_output_tokens"} if status == "incomplete" else None
        ends = {"error": None, "incomplete_details": why, "usage": usage if output else None}
        told = {"instructions": self.request.get("instructions"), "metadata": self.request.get("metadata")}
        return head | {"model": self.model, "output": output} | settings | ends | told


class AnthropicMessage(Answer):
    """Of `POST /v1/messages`, Anthropic's Messages API; with the `[DONE]` that vLLM puts behind its last event."""

    names_events = True
    limits = ("max_tokens",)

    def prompt(self) -> str:
        if not self.request.get("max_tokens"):
            raise BadRequestError("max_tokens: a number is required")
        return _content_text(_messages(self.request, "messages")[-1].get("content"))

    def whole(self) -> JsonObject:
        ends = {"stop_reason": self._stop_reason, "stop_sequence": None}
        return self._head([{"type": "text", "text": self.text}], len(self.tokens)) | ends

    def events(self) -> Iterator[JsonObject]:
        head = self._head([], 0) | {"stop_reason": None, "stop_sequence": None}
        yield {"type": "message_start", "message": head}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        for token in self.tokens:
            yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}}
        yield {"type": "content_block_stop", "index": 0}
        delta = {"stop_reason": self._stop_reason, "stop_sequence": None}
        usage = {"input_tokens": self.prompt_tokens, "output_tokens": len(self.tokens)}
        yield {"type": "message_delta", "delta": delta, "usage": usage}
        yield {"type": "message_stop"}

    @property
    def _stop_reason(self) -> str:
        return "max_tokens" if self.cut_short else "end_turn"

    def _head(self, content: list[JsonObject], output_tokens: int) -> JsonObject:
        usage = {"input_tokens": self.prompt_tokens, "output_tokens": output_tokens}
        head = {"id": f"msg_{self.unique}", "type": "message", "role": "assistant", "model": self.model}
        return head | {"content": content, "usage": usage}


def _messages(request: JsonObject, name: str) -> list[JsonObject]:
    messages = request.get(name)
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequestError(f"{name}: a list of one or more objects is required")
    return messages


def _content_text(content: object) -> str:
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


ANSWERS: dict[str, type[Answer]] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
    "/v1/responses": ModelResponse,
    "/v1/messages": AnthropicMessage,
}
"""By path, all of them `POST` with a JSON object."""
