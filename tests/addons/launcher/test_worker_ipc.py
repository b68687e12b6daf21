"""The messages between a supervisor and a worker, over a socket of the same kind."""

import socket

import pytest
from pydantic import SecretStr

from addons.launcher.worker_ipc import MAX_PACKET, Retire


@pytest.mark.parametrize("token", ["one", "one,two", "t" * 128 * 1024], ids=["one", "two", "all that execve takes"])
def test_retire_packet_carries_the_current_tokens(token: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        ours.send(Retire(SecretStr(token)).packet())
        assert Retire.read(theirs.recv(MAX_PACKET)).token.get_secret_value() == token


@pytest.mark.parametrize("packet", [b"", b"retire", b'{"addresses": []}'])
def test_retire_read_rejects_any_other_packet(packet: bytes) -> None:
    with pytest.raises(ValueError, match="retire"):
        Retire.read(packet)


def test_retire_repr_contains_no_token() -> None:
    assert "s3cret" not in repr(Retire(SecretStr("s3cret")))
