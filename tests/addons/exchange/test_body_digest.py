import hashlib

from addons.exchange.body_digest import BodyDigest


def test_body_digest_covers_all_pieces_and_is_complete_at_the_end() -> None:
    digest = BodyDigest()
    for piece in (b"ab", b"", b"c"):
        digest.add(piece)
    assert (digest.hex(), digest.size, digest.complete) == (hashlib.sha256(b"abc").hexdigest(), 3, False)
    digest.end()
    assert digest.complete
