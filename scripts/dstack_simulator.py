#!/usr/bin/env python3
"""Plays dstack's guest agent on a Unix socket, for development and tests.

Nothing that it makes is worth anything as proof. Keys come from a seed, not from a KMS; quotes are made up by this
process and verify under a root that it made up as well. They have the shape of real ones, so that the same code serves
development and production, and the same verifier checks both: it rejects these unless it is told to trust this root.
"""

import argparse
import contextlib
import json
import secrets
import signal
import sys
import threading
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from scripts.tee_simulator.agent import GuestAgent
from scripts.tee_simulator.app import MrConfigVersion
from scripts.tee_simulator.collateral import collateral
from scripts.tee_simulator.guest import GuestOptions, SimulatedGuest
from scripts.tee_simulator.kms import KeyProviderKind
from scripts.tee_simulator.server import SocketServer
from scripts.tee_simulator.tappd import Tappd
from scripts.tee_simulator.tdx import SimulatedPlatform

MAX_GPUS = 16


def main() -> None:
    """Serve until stopped; say where on the first line of standard output."""
    parser = _parser()
    options = parser.parse_args()
    if options.os == "0.5" and options.event_log_version == 2:
        parser.error("argument --event-log-version: dstack 0.5 knows version 1 alone")
    if options.os == "0.5" and options.gpus:
        parser.error("argument --gpus: dstack 0.5 attests none")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    platform = SimulatedPlatform()
    guest = SimulatedGuest(platform, _guest_options(options))
    agent = GuestAgent(guest)
    with contextlib.ExitStack() as stack:
        try:
            server = _listening(stack, SocketServer(options.socket, agent.answer, delay=options.delay))
            if options.tappd_socket:
                tappd = SocketServer(options.tappd_socket, Tappd(guest, agent).answer, "/prpc/", options.delay)
                threading.Thread(target=_listening(stack, tappd).serve_forever, daemon=True).start()
            if options.root:
                options.root.write_bytes(platform.pki.root.certificate.public_bytes(Encoding.PEM))
            if options.collateral:
                options.collateral.write_text(json.dumps(collateral(platform.pki)))
            if options.identity:
                options.identity.write_text(json.dumps(guest.identity(), indent=2) + "\n")
            print(f"listening at {options.socket}", flush=True)
            server.serve_forever()
        except OSError as error:
            sys.exit(f"dstack_simulator: {_reason(error, options.socket)}")
        except KeyboardInterrupt:
            pass


def _listening(stack: contextlib.ExitStack, server: SocketServer) -> SocketServer:
    stack.callback(server.server_close)
    return server


def _guest_options(options: argparse.Namespace) -> GuestOptions:
    return GuestOptions(
        seed=options.seed or secrets.token_bytes(32),
        os_version=options.os,
        compose=options.app_compose,
        event_log_version=options.event_log_version,
        key_provider=options.key_provider,
        mr_config=options.mr_config_id,
        gpus=options.gpus,
        lite=options.tdx_attestation_variant == "lite",
        debug=options.debug_td,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="It says 'listening at PATH' once it does. Ctrl-C or SIGTERM stops it and removes the socket.",
    )
    parser.add_argument(
        "--socket", type=Path, required=True, metavar="PATH", help="Unix socket to listen at, mode 0600"
    )
    parser.add_argument("--tappd-socket", type=Path, metavar="PATH", help="another one, for the older interface")
    parser.add_argument("--delay", type=_delay, default=0.0, metavar="SECONDS", help="time every answer takes (0)")
    _add_files(parser.add_argument_group("what verifies its quotes"))
    _add_guest(parser.add_argument_group("the guest"))
    return parser


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--root", type=Path, metavar="PATH", help="write the root CA's certificate there, PEM")
    group.add_argument(
        "--collateral", type=Path, metavar="PATH", help="write what verifies its quotes there, JSON for dcap-qvl"
    )
    group.add_argument(
        "--identity", type=Path, metavar="PATH", help="write what to expect of the guest there: hashes and keys, JSON"
    )


def _add_guest(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--os",
        choices=("0.6", "0.5"),
        default="0.6",
        help="dstack's release: 0.6.0 (default), or 0.5.5 (unstripped log)",
    )
    group.add_argument(
        "--seed", type=_seed, metavar="HEX", help="32 bytes that the keys come from (random); gives the same keys again"
    )
    group.add_argument(
        "--app-compose", type=_app_compose, metavar="FILE", help="the app's compose document, JSON (one of its own)"
    )
    group.add_argument(
        "--event-log-version", type=int, choices=(1, 2), help="of runtime events (as the compose document says, or 1)"
    )
    group.add_argument(
        "--key-provider",
        type=KeyProviderKind,
        choices=tuple(KeyProviderKind),
        default=KeyProviderKind.KMS,
        help="who gives it its keys (kms)",
    )
    group.add_argument(
        "--mr-config-id",
        type=MrConfigVersion,
        choices=tuple(MrConfigVersion),
        help="how the host binds the app (as dstack's: v1, or with a key_provider_id in the compose document v3)",
    )
    group.add_argument("--gpus", type=_gpus, default=0, metavar="N", help="GPUs that it attested at boot (0)")
    group.add_argument(
        "--tdx-attestation-variant",
        choices=("lite", "legacy"),
        default="lite",
        help="whether vm_config has what the boot registers can be recomputed from (lite)",
    )
    group.add_argument("--debug-td", action="store_true", help="set the TD's DEBUG attribute, which verifiers refuse")


def _seed(text: str) -> bytes:
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise argparse.ArgumentTypeError("it takes 32 bytes, 64 hex digits")
    return seed


def _delay(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("it takes seconds, 0 to 3600")
    return seconds


def _gpus(text: str) -> int:
    count = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= count <= MAX_GPUS:
        raise argparse.ArgumentTypeError(f"it takes a number, 0 to {MAX_GPUS}")
    return count


def _app_compose(path: str) -> str:
    try:
        # Bytes, because the hash is over the very text: reading it as text would change its line ends.
        text = Path(path).read_bytes().decode()
        if not isinstance(json.loads(text), dict):
            raise argparse.ArgumentTypeError(f"{path} must hold a JSON object")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{path} must hold a JSON object in UTF-8") from None
    return text


def _reason(error: OSError, path: Path) -> str:
    if isinstance(error, FileExistsError):
        return str(error)
    if error.filename:
        return f"{error.filename} cannot be written: {error.strerror}. Give another path"
    return f"cannot listen at {path}: {error.strerror or error}. Give --socket another path"


if __name__ == "__main__":
    main()
