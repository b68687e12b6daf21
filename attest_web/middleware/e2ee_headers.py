"""Header fields by which a client asks for end-to-end encryption, in any of the dialects in the field.

None of them is supported. A client that requests one must not get a response in the clear.
"""

from collections.abc import Iterable

UNSUPPORTED = (
    "End-to-end encryption is not supported here; nothing was forwarded. Send the request without its headers."
)

_NAMES = frozenset(
    {
        b"x-signing-algo",
        b"x-client-pub-key",
        b"x-model-pub-key",
        b"x-encryption-version",
        b"x-encrypt-all-fields",
    }
)
_PREFIX = b"x-e2ee-"
_BEGINNINGS = (b"x-", b"X-", b"x_", b"X_")


def asks_for_encryption(names: Iterable[bytes]) -> bool:
    """Whether one of a request's header fields belongs to end-to-end encryption.

    Args:
        names: Of the fields, in any case. An underscore counts as a hyphen, as it does to servers behind CGI's names
            (RFC 3875, 4.1.18), WSGI's among them.
    """
    for name in names:
        if name[:2] in _BEGINNINGS:  # most names do not begin so
            written = name.lower().replace(b"_", b"-")
            if written in _NAMES or written.startswith(_PREFIX):
                return True
    return False
