import hashlib

from addons.exchange.body_digest import BodyDigest


def test_a_digest_is_that_of_all_pieces_and_complete_at_the_end() -> None:
    digest = BodyDigest()
    for piece in (b"ab", b"", b"c"):
        digest.add(piece)
    assert (digest.hex(), digest.size, digest.complete) == (hashlib.sha256(b"abc").hexdigest(), 3, False)
    digest.end()
    assert digest.complete


def test_a_given_hash_stands_for_the_body_and_the_size_is_that_of_the_body() -> None:
    digest = BodyDigest("0" * 64)
    digest.add(b"abc")
    assert (digest.hex(), digest.size) == ("0" * 64, 3)
