"""A worker of `tee-signer`: a proxy that gets its sockets, and with DEV=1 its keys, from a supervisor."""

import asyncio
import json
import logging
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from addons.launcher.worker_ipc import MAX_PACKET, Ready, Retire, WorkerConfig
from addons.lifecycle.worker_context import WorkerContext
from attest_web.keys import SigningKeys
from attest_web.metrics import SharedFiles
from attest_web.process.memory_file import MemoryFile
from attest_web.setting_values import split_tokens
from attest_web.store_address import parse_address

if TYPE_CHECKING:
    from addons.tee_signer import TeeSigner

logger = logging.getLogger(__name__)

START_TIMEOUT = 10.0
"""Seconds within which a worker has to receive its configuration."""


def inherit(channel: socket.socket) -> WorkerContext:
    """Receive this worker's configuration and sockets.

    Raises:
        OSError: Nothing was received in time.
        ValueError: The message is malformed.
    """
    channel.settimeout(START_TIMEOUT)
    packet, descriptors, _, _ = socket.recv_fds(channel, MAX_PACKET, 3)
    listener, side_listener = (socket.socket(fileno=descriptor) for descriptor in descriptors[:2])
    worker_config = WorkerConfig(**json.loads(packet))
    return WorkerContext(
        number=worker_config.number,
        workers=worker_config.workers,
        keys=SigningKeys.from_secrets(*map(bytes.fromhex, worker_config.secrets)) if worker_config.secrets else None,
        store=parse_address(worker_config.store),
        metrics=SharedFiles(Path(worker_config.metrics), worker_config.metrics_number),
        listener=listener,
        side_listener=side_listener,
        tls_file=MemoryFile(descriptors[2]) if len(descriptors) > 2 else None,
    )


class SupervisorClient:
    """An addon that reports to the supervisor that the proxy is ready, and retires when the supervisor asks for it."""

    name = "supervisor_link"

    def __init__(self, channel: socket.socket, signer: "TeeSigner", worker_context: WorkerContext) -> None:
        """Make the addon.

        Args:
            channel: The channel to the supervisor.
            signer: The signing addon.
            worker_context: What the worker received from the supervisor.
        """
        self._channel = channel
        self._signer = signer
        self._worker_context = worker_context
        self._is_orphan = False

    def running(self) -> None:
        """Report that the proxy listens."""
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._listen)
        try:
            self._channel.send(Ready(self._signer.signing_addresses()).packet())
        except OSError:
            self._lose_supervisor()

    def done(self) -> None:
        """Stop reading the channel; remove the shared directory if the supervisor has ended without doing so."""
        asyncio.get_running_loop().remove_reader(self._channel)
        if self._is_orphan and self._worker_context.metrics is not None:
            shutil.rmtree(self._worker_context.metrics.directory.parent, ignore_errors=True)

    def _listen(self) -> None:
        try:
            packet = self._channel.recv(MAX_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._lose_supervisor()
            return
        self._signer.replace_tokens(split_tokens(Retire.read(packet).token))
        self._signer.drain().retire()

    def _lose_supervisor(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        logger.warning("the supervisor is gone: stopping")
        self._is_orphan = True
        self._signer.drain().terminate()


def main() -> int:
    """Run a worker: `python -m addons.launcher.worker CHANNEL [TEE-SIGNER ARGUMENTS]`, as the supervisor does."""
    from addons.launcher.command import run_proxy  # noqa: PLC0415  # imports mitmproxy, which the supervisor does not run

    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    try:
        worker_context = inherit(channel)
    except (OSError, ValueError) as error:
        print(f"tee-signer: a worker is started by tee-signer --workers alone ({error})", file=sys.stderr)  # noqa: T201
        return 1
    return run_proxy(sys.argv[2:], worker_context, lambda signer: SupervisorClient(channel, signer, worker_context))


if __name__ == "__main__":
    sys.exit(main())
