"""WebSocket frames (RFC 6455, 5.2) and handshakes, encoded by hand."""

import base64
import hashlib
import struct

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
MASK = b"\x11\x22\x33\x44"
KEY = base64.b64encode(b"sixteen bytes ..").decode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = MASK) -> bytes:
    """A client's frame; a server's if the mask is None."""
    first = (0x80 if fin else 0) | opcode
    bit = 0x80 if mask is not None else 0
    if len(payload) < 126:
        head = bytes([first, bit | len(payload)])
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def accept_of(key: str) -> str:
    """The server's `Sec-WebSocket-Accept` for a key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
