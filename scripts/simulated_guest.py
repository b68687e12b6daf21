"""The trust domain behind the simulated guest agent: its app, its measurements, its keys and what it answers.

Shapes: dstack's guest agent 0.5 (`GetKey`, `GetQuote`, `Info`, `Version`). Bytes are hex in JSON.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from scripts.simulated_event_log import Event, boot_events, replay, runtime_event
from scripts.simulated_kms import SimulatedKms, UnknownAlgorithmError
from scripts.simulated_tdx import REPORT_DATA_SIZE, SimulatedPlatform, TdMeasurements

JsonObject = dict[str, Any]

VERSION = "0.5.7"
MRTD = hashlib.sha384(b"simulated TD: initial memory").digest()
OS_IMAGE_HASH = hashlib.sha256(b"simulated TD: OS image").digest()
MR_KMS = hashlib.sha256(b"simulated KMS: measurements").digest()

_COMPOSE_FILE = (
    "services:\n  tee-signer:\n    image: tee-signer\n    volumes:\n      - /var/run/dstack.sock:/var/run/dstack.sock\n"
)
DEFAULT_APP_COMPOSE = json.dumps(
    {
        "manifest_version": 2,
        "name": "tee-signer-simulated",
        "runner": "docker-compose",
        "docker_compose_file": _COMPOSE_FILE,
        "kms_enabled": True,
        "gateway_enabled": False,
        "public_logs": False,
        "public_sysinfo": True,
        "public_tcbinfo": True,
        "allowed_envs": [],
        "no_instance_id": False,
        "secure_time": False,
    },
    separators=(",", ":"),
)


class RequestError(Exception):
    """A call that the guest agent refuses.

    Attributes:
        status: HTTP status to refuse it with.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class SimulatedGuest:
    """A trust domain that runs one app. Its methods may be called from any thread.

    Attributes:
        app_compose: The app's compose document, the very text that `compose_hash` is the SHA-256 of.
        compose_hash: 32 bytes.
        app_id: First 20 bytes of that hash, as in dstack where nobody chose another.
        log: All events, in order.
        measured: What its quotes say of it; the registers are the log's replay.
    """

    def __init__(
        self, platform: SimulatedPlatform, seed: bytes, app_compose: str = DEFAULT_APP_COMPOSE, *, debug: bool = False
    ) -> None:
        """Boot it.

        Args:
            platform: Mints its quotes.
            seed: Where its keys come from, and its instance id.
            app_compose: The app's compose document, a JSON object.
            debug: Whether the TD's DEBUG attribute is set.
        """
        self._platform = platform
        self._kms = SimulatedKms(seed)
        self.app_compose = app_compose
        self.compose_hash = hashlib.sha256(app_compose.encode()).digest()
        self.app_id = self.compose_hash[:20]
        self._instance_id = hashlib.sha256(b"instance" + self._kms.root_public_key + self.app_id).digest()[:20]
        self._key_provider = json.dumps({"name": "kms", "id": self._kms.root_public_key.hex()}, separators=(",", ":"))
        self.log = boot_events() + self._runtime_events()
        # dstack's first version of a configuration id: its number, and the compose hash.
        configuration = (b"\x01" + self.compose_hash).ljust(48, b"\0")
        self.measured = TdMeasurements(MRTD, replay(self.log), configuration, debug)
        self._methods: dict[str, Callable[[JsonObject], JsonObject]] = {
            "GetKey": self._get_key,
            "GetQuote": self._get_quote,
            "Info": self._info,
            "Version": self._version,
        }

    def answer(self, method: str, body: bytes) -> JsonObject:
        """Answer a call.

        Args:
            method: Its name.
            body: Its arguments, a JSON object.

        Raises:
            RequestError: There is no such method, or it does not take those arguments.
        """
        if method not in self._methods:
            raise RequestError(f"the simulator has no such method; it has {', '.join(self._methods)}", 404)
        try:
            arguments = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise RequestError("the arguments must be a JSON object")
        return self._methods[method](arguments)

    def _runtime_events(self) -> list[Event]:
        events = {
            "system-preparing": b"",
            "app-id": self.app_id,
            "compose-hash": self.compose_hash,
            "instance-id": self._instance_id,
            "boot-mr-done": b"",
            "mr-kms": MR_KMS,
            "os-image-hash": OS_IMAGE_HASH,
            "key-provider": self._key_provider.encode(),
            "storage-fs": b"zfs",
            "system-ready": b"",
        }
        return [runtime_event(name, payload) for name, payload in events.items()]

    def _get_key(self, arguments: JsonObject) -> JsonObject:
        path, purpose, algorithm = (_text(arguments, name) for name in ("path", "purpose", "algorithm"))
        try:
            key, chain = self._kms.get_key(self.app_id, path, purpose, algorithm)
        except UnknownAlgorithmError as error:
            raise RequestError(str(error)) from None
        return {"key": key.hex(), "signature_chain": [signature.hex() for signature in chain]}

    def _get_quote(self, arguments: JsonObject) -> JsonObject:
        try:
            report_data = bytes.fromhex(_text(arguments, "report_data"))
        except ValueError:
            raise RequestError("report_data must be hex") from None
        if len(report_data) > REPORT_DATA_SIZE:
            raise RequestError(f"report_data must have at most {REPORT_DATA_SIZE} bytes")
        report_data = report_data.ljust(REPORT_DATA_SIZE, b"\0")
        return {
            "quote": self._platform.quote(self.measured, report_data).hex(),
            "event_log": json.dumps([event.as_json() for event in self.log]),
            "report_data": report_data.hex(),
            "vm_config": self._vm_config(),
        }

    def _info(self, _: JsonObject) -> JsonObject:
        device_id = hashlib.sha256(self._platform.pki.ppid).hexdigest()
        # dstack's digest of all that is measured; where a configuration id or an owner is set, they count.
        owners = self.measured.mr_config_id + bytes(2 * 48)
        aggregated = hashlib.sha256(MRTD + b"".join(self.measured.rtmrs) + owners).hexdigest()
        shared = {
            "mr_aggregated": aggregated,
            "os_image_hash": OS_IMAGE_HASH.hex(),
            "compose_hash": self.compose_hash.hex(),
            "device_id": device_id,
        }
        tcb_info = {
            "mrtd": MRTD.hex(),
            **{f"rtmr{number}": register.hex() for number, register in enumerate(self.measured.rtmrs)},
            **shared,
            "event_log": [event.as_json() for event in self.log],
            "app_compose": self.app_compose,
        }
        return {
            "app_id": self.app_id.hex(),
            "instance_id": self._instance_id.hex(),
            "app_cert": "",  # as in dstack until one was issued
            "tcb_info": json.dumps(tcb_info, indent=2),
            "app_name": str(json.loads(self.app_compose).get("name", "")),
            **shared,
            "key_provider_info": self._key_provider,
            "vm_config": self._vm_config(),
            "cloud_vendor": "dstack simulator",
            "cloud_product": "dstack simulator",
        }

    def _version(self, _: JsonObject) -> JsonObject:
        return {"version": VERSION, "rev": "simulated"}

    def _vm_config(self) -> str:
        return json.dumps({"os_image_hash": OS_IMAGE_HASH.hex(), "cpu_count": 4, "memory_size": 8 << 30})


def _text(arguments: JsonObject, name: str) -> str:
    value = arguments.get(name, "")
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a string")
    return value
