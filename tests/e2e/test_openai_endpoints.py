"""Every other endpoint that the openai package has and vLLM serves, each with its signature where it has one."""

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.e2e.support.processes import MODEL, Proxy
from tests.e2e.support.recording_transport import Wire
from tests.e2e.support.signed_exchange import check_signatures

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10
AUDIO = b"RIFF" + b"\r\n--\x00\xff" * 50_000
"""With what looks like the beginning of a multipart delimiter."""


def named(content: bytes, name: str) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


def heard(content: bytes) -> str:
    """What the stand-in hears in a file."""
    return f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_response_is_parsed_and_signed(
    proxy: Proxy, openai_client: OpenAI, wire: Wire, encoding: Any
) -> None:
    answer = openai_client.embeddings.create(model=MODEL, input=["one", "two"], encoding_format=encoding)
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.data[0].embedding != answer.data[1].embedding
    assert answer.model_extra  # vLLM gives an id, OpenAI does not
    check_signatures(proxy, answer.model_extra["id"], wire)


@pytest.mark.parametrize("path", ["/rerank", "/score"])
def test_rerank_and_score_responses_are_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire, path: str) -> None:
    query, documents = "a red apple", ["the blue sea", "the apple is red"]
    body = {"model": MODEL, "query": query, "queries": query, "documents": documents}
    answer: Any = openai_client.post(path, body=body, cast_to=object)
    if path == "/rerank":
        assert [result["index"] for result in answer["results"]] == [1, 0]
    else:
        assert answer["data"][0]["score"] < answer["data"][1]["score"]
    check_signatures(proxy, answer["id"], wire)


def test_image_generation_response_is_parsed_and_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    answer = openai_client.images.generate(model=MODEL, prompt="a red apple", n=2)
    assert answer.data
    assert [image.b64_json is not None for image in answer.data] == [True, True]
    check_signatures(proxy, None, wire)


def test_image_edit_upload_arrives_unchanged_and_is_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    images = [named(IMAGE, "one.png"), named(AUDIO, "two.png")]
    answer = openai_client.images.edit(model=MODEL, image=images, prompt="greener", mask=named(b"mask", "mask.png"))
    assert answer.data
    told = answer.data[0].revised_prompt
    assert told == "; ".join(["greener", heard(IMAGE), heard(AUDIO), heard(b"mask")])
    assert AUDIO in wire.request
    check_signatures(proxy, None, wire)


def test_transcription_upload_arrives_unchanged_and_is_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    answer = openai_client.audio.transcriptions.create(model=MODEL, file=named(AUDIO, "audio.wav"))
    assert answer.text == heard(AUDIO)
    check_signatures(proxy, None, wire)


def test_transcription_stream_is_parsed_and_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    file = named(AUDIO, "audio.wav")
    events = list(openai_client.audio.transcriptions.create(model=MODEL, file=file, stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == heard(AUDIO)
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == heard(AUDIO)
    check_signatures(proxy, None, wire)


def test_transcription_as_plain_text_is_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    file = named(AUDIO, "audio.wav")
    text = openai_client.audio.transcriptions.create(model=MODEL, file=file, response_format="text")
    assert text == heard(AUDIO)
    check_signatures(proxy, None, wire)


def test_chunked_upload_of_unknown_length_arrives_unchanged_and_is_signed(
    proxy: Proxy, openai_client: OpenAI, wire: Wire
) -> None:
    """Chunked, that is; the openai package has no such uploads of its own."""
    head = b'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'

    def pieces() -> Iterator[bytes]:
        yield head + AUDIO[:1000]
        yield AUDIO[1000:]
        yield b"\r\n--b0undary--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
    url = f"{proxy.url}/v1/audio/transcriptions"
    content = b"".join(pieces())
    answer = openai_client._client.post(
        url, content=pieces(), headers=headers | {"Authorization": f"Bearer {openai_client.api_key}"}
    )
    assert answer.json()["text"] == heard(AUDIO)
    wire.request = content
    check_signatures(proxy, None, wire)


def test_speech_response_is_forwarded_unsigned(openai_client: OpenAI, wire: Wire) -> None:
    answer = openai_client.audio.speech.create(model=MODEL, voice="alloy", input="hello")
    assert len(answer.read()) == 1024
    assert "x-receipt-id" not in wire.headers


def test_responses_route_response_is_parsed_and_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    answer = openai_client.responses.create(model=MODEL, input="say it again")
    assert answer.output_text == "say it again"
    assert answer.id.startswith("resp_")
    check_signatures(proxy, answer.id, wire)


@pytest.mark.parametrize(("limit", "end"), [(None, "response.completed"), (2, "response.incomplete")])
def test_responses_route_stream_completed_or_incomplete_is_signed(
    proxy: Proxy, openai_client: OpenAI, wire: Wire, limit: int | None, end: str
) -> None:
    asked = [{"role": "user", "content": "say it all again"}]
    with openai_client.responses.stream(model=MODEL, input=asked, max_output_tokens=limit) as stream:  # type: ignore[arg-type]
        events = list(stream)
        answer = stream.get_final_response() if limit is None else None
    assert events[0].type == "response.created"
    assert events[-1].type == end
    if answer is not None:
        assert answer.output_text == "say it all again"
    check_signatures(proxy, events[0].response.id, wire)


def test_moderations_response_on_the_catch_all_route_is_signed(proxy: Proxy, openai_client: OpenAI, wire: Wire) -> None:
    """Through the catch-all, which signs what is JSON."""
    answer = openai_client.moderations.create(model=MODEL, input=["one", "two"])
    assert [result.flagged for result in answer.results] == [False, False]
    check_signatures(proxy, answer.id, wire)


def test_tokenize_response_is_forwarded_unsigned(openai_client: OpenAI, wire: Wire) -> None:
    answer: Any = openai_client.post("/tokenize", body={"model": MODEL, "prompt": "hé"}, cast_to=object)
    assert answer["tokens"] == [ord("h"), ord("é")]
    assert "x-receipt-id" not in wire.headers


def test_upstream_metrics_need_no_token(openai_client: OpenAI) -> None:
    text = openai_client.with_options(api_key="wrong").get("/metrics", cast_to=str)
    assert "vllm:num_requests_running" in text


def test_model_retrieval_returns_the_model(openai_client: OpenAI) -> None:
    assert openai_client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize("shape", ["flat", "nested"])
def test_upstream_error_reaches_the_client_unchanged_and_unsigned(openai_client: OpenAI, shape: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.embeddings.create(model=MODEL, input="SECRET", extra_headers={"X-Stand-In-Error": shape})
    assert b"SECRET" in refused.value.response.content
    assert "x-receipt-id" not in refused.value.response.headers


@pytest.mark.parametrize("shape", ["flat", "nested", "detail"])
def test_catch_all_upstream_error_is_wrapped_without_the_quoted_input(openai_client: OpenAI, shape: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        openai_client.moderations.create(model=MODEL, input="SECRET", extra_headers={"X-Stand-In-Error": shape})
    assert refused.value.status_code == (422 if shape == "detail" else 400)
    assert refused.value.response.json().keys() == {"error"}
    assert "SECRET" not in refused.value.response.text
    assert "x-receipt-id" not in refused.value.response.headers
