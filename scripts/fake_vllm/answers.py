"""The fake server's JSON responses: one function for each endpoint, from request to response.

Each function raises `BadRequestError` for a request that vLLM would reject.
"""

import base64
import hashlib
import struct
import time
import uuid
from collections.abc import Callable
from typing import Any

from scripts.fake_vllm.errors import BadRequestError, JsonObject
from scripts.fake_vllm.form import Form

DIMENSIONS = 8
"""Dimensions of an embedding."""

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
"""A PNG of one pixel."""

_CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors", "violence", "violence/graphic"),
)


def models(model: str) -> JsonObject:
    """The response of `GET /v1/models`."""
    return {"object": "list", "data": [model_card(model)]}


def model_card(model: str) -> JsonObject:
    """The response of `GET /v1/models/{id}`."""
    card = {"id": model, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
    return card | {"root": model, "parent": None, "max_model_len": 32768, "permission": []}


def embeddings(request: JsonObject) -> JsonObject:
    """The response of `POST /v1/embeddings`."""
    texts = _texts(request, "input")
    in_base64 = request.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = [byte / 255 - 0.5 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]
        embedding: Any = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode() if in_base64 else vector
        data.append({"index": index, "object": "embedding", "embedding": embedding})
    head = {"id": f"embd-{uuid.uuid4().hex}", "object": "list", "created": int(time.time())}
    usage = _usage(texts) | {"completion_tokens": 0, "prompt_tokens_details": None}
    return head | {"model": request["model"], "data": data, "usage": usage}


def rerank(request: JsonObject) -> JsonObject:
    """The response of `POST /v1/rerank`, by the number of words that a document has in common with the query."""
    query, documents = str(request.get("query", "")), _texts(request, "documents")
    scored = sorted(enumerate(documents), key=lambda one: -_likeness(query, one[1]))[: request.get("top_n") or None]
    results = [
        {"index": index, "document": {"text": text, "multi_modal": None}, "relevance_score": _likeness(query, text)}
        for index, text in scored
    ]
    head = {"id": f"rerank-{uuid.uuid4().hex}", "model": request["model"]}
    return head | {"usage": _usage([query, *documents]), "results": results}


def score(request: JsonObject) -> JsonObject:
    """The response of `POST /v1/score`."""
    pairs = (("queries", "documents"), ("text_1", "text_2"), ("data_1", "data_2"))
    ours = next((pair for pair in pairs if pair[0] in request), pairs[0])
    first, second = _texts(request, ours[0]), _texts(request, ours[1])
    if len(first) == 1:
        first *= len(second)
    if len(first) != len(second):
        raise BadRequestError("the two lists must have the same length, or the first of them one text")
    data = [
        {"index": index, "object": "score", "score": _likeness(*both)}
        for index, both in enumerate(zip(first, second, strict=True))
    ]
    head = {"id": f"score-{uuid.uuid4().hex}", "object": "list", "created": int(time.time())}
    usage = _usage(first + second) | {"completion_tokens": 0, "prompt_tokens_details": None}
    return head | {"model": request["model"], "data": data, "usage": usage}


def images(request: JsonObject) -> JsonObject:
    """The response of `POST /v1/images/generations`."""
    prompt = request.get("prompt")
    if not isinstance(prompt, str):
        raise BadRequestError("prompt: a string is required")
    return _images(int(request.get("n") or 1), str(request.get("size") or "1024x1024"), prompt)


def edited_images(form: Form) -> JsonObject:
    """The response of `POST /v1/images/edits`; each revised prompt describes the files."""
    if not form.files:
        raise BadRequestError("image: a file is required")
    told = "; ".join([form.fields.get("prompt", ""), *map(str, form.files)])
    return _images(int(form.fields.get("n") or 1), form.fields.get("size") or "1024x1024", told)


def moderations(request: JsonObject) -> JsonObject:
    """The response of `POST /v1/moderations`: no input is ever flagged."""
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.001),
        "category_applied_input_types": {category: ["text"] for category in _CATEGORIES},
    }
    results = [result] * len(_texts(request, "input"))
    return {"id": f"modr-{uuid.uuid4().hex}", "model": request["model"], "results": results}


def tokenize(request: JsonObject) -> JsonObject:
    """The response of `POST /tokenize`: a token is a code point."""
    text = request.get("prompt")
    if text is None:
        text = "".join(str(message.get("content", "")) for message in request.get("messages") or [])
    tokens = [ord(character) for character in str(text)]
    return {"count": len(tokens), "max_model_len": 32768, "tokens": tokens, "token_strs": None}


def detokenize(request: JsonObject) -> JsonObject:
    """The response of `POST /detokenize`."""
    try:
        return {"prompt": "".join(map(chr, request["tokens"]))}
    except (KeyError, TypeError, ValueError):
        raise BadRequestError("tokens: a list of numbers is required") from None


def count_tokens(request: JsonObject) -> JsonObject:
    """The response of `POST /v1/messages/count_tokens`."""
    text = " ".join(str(message.get("content", "")) for message in request.get("messages") or [])
    count = len(text.split())
    return {"input_tokens": count, "context_management": {"original_input_tokens": count}}


OBJECTS: dict[str, Callable[[JsonObject], JsonObject]] = {
    "/v1/embeddings": embeddings,
    "/rerank": rerank,
    "/v1/rerank": rerank,
    "/v2/rerank": rerank,
    "/score": score,
    "/v1/score": score,
    "/v1/images/generations": images,
    "/v1/moderations": moderations,
    "/tokenize": tokenize,
    "/detokenize": detokenize,
    "/v1/messages/count_tokens": count_tokens,
}
"""By path, all of them `POST` with a JSON object."""


def _images(number: int, size: str, prompt: str) -> JsonObject:
    image = {"b64_json": base64.b64encode(PNG).decode(), "url": None, "revised_prompt": prompt}
    words = len(prompt.split())
    details = {"image_tokens": 0, "text_tokens": words}
    usage = {"input_tokens": words, "input_tokens_details": details, "output_tokens": 1, "total_tokens": words + 1}
    answer = {"created": int(time.time()), "output_format": "png", "size": size, "usage": usage}
    return answer | {"data": [image] * number}


def _texts(request: JsonObject, name: str) -> list[str]:
    given = request.get(name)
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise BadRequestError(f"{name}: a string, or a list of one or more, is required")
    return [str(text) for text in given]


def _usage(texts: list[str]) -> JsonObject:
    words = sum(len(text.split()) for text in texts)
    return {"prompt_tokens": words, "total_tokens": words}


def _likeness(one: str, other: str) -> float:
    words, others = set(one.lower().split()), set(other.lower().split())
    return len(words & others) / max(1, len(words | others))
