import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.layers.websocket.frames import FrameReader, State
from tests.support.cutting import cut, cuts
from tests.support.frames import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, frame


class Reading:
    """A reader, what it let pass, and what it took for payload."""

    def __init__(self, *pieces: bytes, from_client: bool = True) -> None:
        self.payload = b""
        self.reader = FrameReader(from_client, self._take)
        self.passed = b"".join(self.reader.feed(piece) for piece in pieces)

    def _take(self, payload: bytes) -> None:
        self.payload += payload


parts = st.lists(st.binary(max_size=140), min_size=1, max_size=3)
messages = st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), parts, st.booleans()), max_size=4)


def conversation_of(messages: list[tuple[int, list[bytes], bool]]) -> tuple[bytes, bytes]:
    """A client's frames, a ping before some of them, and their payload."""
    wire, payload = b"", b""
    for kind, fragments, pinged in messages:
        for number, part in enumerate(fragments):
            if pinged:
                wire += frame(PING, part[:125])
            wire += frame(CONTINUATION if number else kind, part, fin=number == len(fragments) - 1)
            payload += part
    return wire, payload


@given(messages, cuts)
def test_frame_reader_payload_and_passed_bytes_are_the_same_for_every_split(
    said: list[tuple[int, list[bytes], bool]], where: list[int]
) -> None:
    wire, payload = conversation_of(said)
    close = frame(CLOSE, b"\x03\xe8bye")
    reading = Reading(*cut(wire + close, where))
    assert reading.passed == wire
    assert hashlib.sha256(reading.payload).digest() == hashlib.sha256(payload).digest()
    assert reading.reader.state is State.CLOSED
    assert reading.reader.close_frame == close


@given(st.binary(max_size=300), cuts, st.booleans())
def test_frame_reader_passes_only_a_prefix_of_any_bytes(data: bytes, where: list[int], from_client: bool) -> None:
    whole, pieces = (Reading(*given, from_client=from_client) for given in ([data], cut(data, where)))
    assert data.startswith(whole.passed)
    assert (pieces.passed, pieces.payload, pieces.reader.state, pieces.reader.close_frame) == (
        whole.passed,
        whole.payload,
        whole.reader.state,
        whole.reader.close_frame,
    )


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
@pytest.mark.parametrize("from_client", [True, False], ids=["client", "server"])
def test_frame_reader_reads_payload_lengths_of_every_form(size: int, from_client: bool) -> None:
    wire = frame(BINARY, b"x" * size, mask=MASK if from_client else None) + frame(
        TEXT, b"end", mask=MASK if from_client else None
    )
    reading = Reading(wire, from_client=from_client)
    assert reading.passed == wire
    assert reading.payload == b"x" * size + b"end"
    assert reading.reader.state is State.OPEN


def test_frame_reader_passes_a_partial_frame_without_waiting() -> None:
    wire = frame(BINARY, b"x" * 1000)
    reading = Reading(wire[:500])
    assert reading.passed == wire[:500]
    assert not reading.reader.between_frames
    assert reading.reader.feed(wire[500:]) == wire[500:]
    assert reading.reader.between_frames


def test_frame_reader_excludes_control_frames_from_the_payload() -> None:
    assert Reading(frame(PING, b"p"), frame(TEXT, b"a"), frame(PONG, b"q"), frame(CLOSE, b"\x03\xe8z")).payload == b"a"


def test_frame_reader_discards_data_after_a_close_frame() -> None:
    reading = Reading(frame(TEXT, b"a") + frame(CLOSE) + frame(TEXT, b"b"), frame(TEXT, b"c"), b"\xff\xff")
    assert reading.passed == frame(TEXT, b"a")
    assert reading.payload == b"a"
    assert reading.reader.state is State.CLOSED


def kept(reader: FrameReader) -> int:
    """Bytes that a reader keeps."""
    values = [*vars(reader).values(), *vars(reader._decoder).values()]
    return sum(len(value) for value in values if isinstance(value, bytes | bytearray))


def test_frame_reader_does_not_buffer_data_after_a_close_frame() -> None:
    reading = Reading(frame(TEXT, b"a") + frame(CLOSE, b"\x03\xe8"))
    before = kept(reading.reader)
    for _ in range(3):
        assert reading.reader.feed(frame(TEXT, b"b" * 10_000)) == b""
    assert kept(reading.reader) == before <= 10


def test_frame_reader_close_frame_contains_only_its_own_bytes() -> None:
    close = frame(CLOSE, b"\x03\xe8")
    for wire in (close + frame(TEXT, b"b"), frame(TEXT, b"a") + close + b"\xff\xff", close + close):
        assert Reading(wire).reader.close_frame == close


@pytest.mark.parametrize(("body", "code"), [(b"", 1005), (b"\x03\xe8", 1000), (b"\x0f\xa0why", 4000)])
def test_frame_reader_reads_the_close_code(body: bytes, code: int) -> None:
    reader = Reading(frame(CLOSE, body)).reader
    assert (reader.state, reader.close_code) == (State.CLOSED, code)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535])
def test_frame_reader_fails_on_a_close_code_that_must_not_be_sent(code: int) -> None:
    reading = Reading(frame(TEXT, b"a"), frame(CLOSE, code.to_bytes(2) + b"why"))
    assert reading.reader.state is State.FAILED
    assert reading.passed == frame(TEXT, b"a")
    assert reading.reader.close_frame == b""


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_frame_reader_accepts_registered_and_private_close_codes(code: int) -> None:
    reader = Reading(frame(CLOSE, code.to_bytes(2))).reader
    assert (reader.state, reader.close_code) == (State.CLOSED, code)


@pytest.mark.parametrize(
    "bad",
    [
        frame(TEXT, b"b", mask=None),
        b"\xc1" + frame(TEXT, b"b")[1:],  # RSV1: compressed, although nobody has agreed to that
        b"\xa1" + frame(TEXT, b"b")[1:],
        b"\x91" + frame(TEXT, b"b")[1:],
        frame(3, b"b"),
        frame(11, b"b"),
        frame(PING, b"b", fin=False),
        frame(PING, b"b" * 126),
        frame(CLOSE, b"b"),
        frame(CONTINUATION, b"b"),
        frame(TEXT, b"b", fin=False) + frame(TEXT, b"b"),
        b"\x81\xfe\x00\x05" + MASK + b"12345",  # two bytes of length where one would do
        b"\x81\xff" + b"\x00" * 7 + b"\x05" + MASK + b"12345",
        b"\x81\xff\xff" + b"\x00" * 7 + MASK,
    ],
    ids=[
        "unmasked",
        "RSV1",
        "RSV2",
        "RSV3",
        "reserved data opcode",
        "reserved control opcode",
        "fragmented ping",
        "long ping",
        "half a close code",
        "continuation of nothing",
        "message within a message",
        "16 bits of length for 5",
        "64 bits of length for 5",
        "63 bits exceeded",
    ],
)
def test_frame_reader_fails_on_an_invalid_frame(bad: bytes) -> None:
    good = frame(TEXT, b"a")
    reading = Reading(good + bad, frame(TEXT, b"c"))
    assert reading.reader.state is State.FAILED
    assert (good + bad).startswith(reading.passed)
    assert len(good + bad) > len(reading.passed) >= len(good)
    assert b"c" not in reading.payload


def test_frame_reader_fails_on_a_masked_frame_from_a_server() -> None:
    reading = Reading(frame(TEXT, b"a"), from_client=False)
    assert (reading.passed, reading.payload, reading.reader.state) == (b"", b"", State.FAILED)


def test_frame_reader_buffers_at_most_a_header_and_a_control_frame() -> None:
    wire = frame(BINARY, b"x" * 70_000) + frame(PING, b"p" * 125) + frame(TEXT, b"y" * 300)
    reader = FrameReader(from_client=True, on_payload=lambda _: None)
    passed = 0
    for at in range(len(wire)):
        passed += len(reader.feed(wire[at : at + 1]))
        assert at + 1 - passed <= 2 + 4 + 125
    assert passed == len(wire)
