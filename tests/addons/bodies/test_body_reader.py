from addons.bodies.body_reader import BodyReader, RawBodyReader


def test_a_raw_body_passes_whole_and_tells_nothing() -> None:
    reader: BodyReader = RawBodyReader()
    assert [reader.feed(piece) for piece in (b'{"id":"x"}', b"data: [DONE]\n\n")] == [
        b'{"id":"x"}',
        b"data: [DONE]\n\n",
    ]
    assert reader.passing([b"a", b"b"]) == 2
    assert reader.end() == b""
    assert (reader.id, reader.finished, reader.usage) == (None, False, None)
