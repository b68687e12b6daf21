"""The trust domain behind the simulated guest agent: what it boots, measures and attests, and its keys.

Shapes: dstack 0.6.0, or 0.5.5 (before logs were stripped, and before `Attest` and `Sign`).
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from scripts.tee_simulator import ra_tls
from scripts.tee_simulator.app import App, MrConfigVersion, default_compose, mr_config_document, mr_config_id
from scripts.tee_simulator.attestation import Attestation
from scripts.tee_simulator.event_log import Log, of_certificate, replay, runtime_event, stripped, with_preimages
from scripts.tee_simulator.gpu import gpu_attestation, gpu_attestation_event
from scripts.tee_simulator.image import MRTD, OS_IMAGE_HASH, VirtualMachine, boot_events
from scripts.tee_simulator.kms import AppKeys, KeyProvider, KeyProviderKind, derive_p256
from scripts.tee_simulator.tdx import SimulatedPlatform, TdMeasurements

MR_KMS = hashlib.sha256(b"simulated KMS: measurements").digest()
DEVICE_ID = hashlib.sha256(b"").digest()
"""A guest does not know its platform's id and reports this; a verifier's device id is SHA-256 of the PPID."""


@dataclass(frozen=True)
class GuestOptions:
    """How a guest is launched.

    Attributes:
        seed: The seed of its keys and its instance id, 32 bytes.
        os_version: dstack's, "0.6" or "0.5".
        compose: The app's compose document, a JSON object; one of the simulator's own by default.
        event_log_version: 1 or 2; by default what the compose document says.
        key_provider: The kind of its key provider.
        mr_config: How the host binds the app; by default as dstack's does, which depends on the compose document.
        gpus: How many GPUs it has attested.
        lite: Whether the host says how to recompute the boot registers.
        debug: Whether the TD's DEBUG attribute is set.
    """

    seed: bytes = field(repr=False)
    os_version: str = "0.6"
    compose: str | None = None
    event_log_version: int | None = None
    key_provider: KeyProviderKind = KeyProviderKind.KMS
    mr_config: MrConfigVersion | None = None
    gpus: int = 0
    lite: bool = True
    debug: bool = False


class SimulatedGuest:
    """A trust domain that runs one app. Its methods may be called from any thread.

    Attributes:
        options: How it was launched.
        app: The app.
        provider: The provider of its keys.
        keys: The app's keys.
        instance_id: 20 bytes, or none where the compose document wants none.
        gpu_info: What `GpuInfo` gives.
        vm_config: What the host says of the machine, JSON.
    """

    def __init__(self, platform: SimulatedPlatform, options: GuestOptions) -> None:
        """Boot it.

        Args:
            platform: Mints its quotes.
            options: How it is launched.
        """
        self._platform = platform
        self.options = options
        self.provider = KeyProvider.from_seed(options.key_provider, options.seed)
        self.app = App(self._compose() if options.compose is None else options.compose)
        self.keys: AppKeys = self.provider.app_keys(self.app.app_id)
        self.instance_id = b"" if self.app.document.get("no_instance_id") else self._instance_id()
        self.gpu_info = gpu_attestation(options.seed, options.gpus)
        document = mr_config_document(self.app, self.provider, self.instance_id, gpus=options.gpus)
        version = options.mr_config or self._mr_config_version()
        self._mr_config_id = mr_config_id(version, self.app, self.provider, document)
        shown = document if version is MrConfigVersion.V3 else None
        self.vm_config = VirtualMachine(options.gpus, options.lite, shown, options.os_version).config()
        self._log = boot_events(named_tables=options.os_version != "0.5") + self._runtime_events()
        self._log_grows = threading.Lock()
        self._authority = self._certificate_authority()

    @property
    def log(self) -> Log:
        """All events, in order, with all that is in them."""
        return self._log

    @property
    def measured(self) -> TdMeasurements:
        """What its quotes say of it; the registers are the log's replay."""
        return self.measured_after(self._log)

    def measured_after(self, log: Log) -> TdMeasurements:
        """What a quote said of it when the log was so long."""
        return TdMeasurements(MRTD, replay(log), self._mr_config_id, self.options.debug)

    def emit(self, name: str, payload: bytes) -> None:
        """Append an event to the log, as an app may before dstack 0.6."""
        with self._log_grows:
            self._log += (runtime_event(name, payload, self._event_log_version),)

    def quote(self, report_data: bytes) -> tuple[bytes, Log]:
        """A quote, and the log in the form that `GetQuote` shows it in.

        Args:
            report_data: What the quote is to say, 64 bytes.

        Raises:
            ValueError: The report data has another length.
        """
        log = self._log
        shown = log if self.options.os_version == "0.5" else stripped(log)
        return self._platform.quote(self.measured_after(log), report_data), shown

    def attestation(self, report_data: bytes) -> bytes:
        """A versioned attestation as `Attest` gives it.

        Args:
            report_data: What its quote is to say, 64 bytes.

        Raises:
            ValueError: The report data has another length.
        """
        return self._attestation(report_data, with_preimages)

    def issue(
        self,
        key: ec.EllipticCurvePrivateKey,
        request: ra_tls.CertificateRequest,
        *,
        attested: bool,
        with_app_info: bool = False,
    ) -> list[str]:
        """Have a certificate issued.

        Args:
            key: Its key.
            request: What it is for.
            attested: Whether the attestation of the key goes into it.
            with_app_info: Whether it says which app's it is.

        Returns:
            The chain in PEM, leaf first and root last.

        Raises:
            CertificateError: No certificate can be as it was asked for.
        """
        extensions: dict[x509.ObjectIdentifier, bytes] = {}
        if attested and self.options.os_version == "0.5":
            quote, log = self.quote(ra_tls.report_data(key.public_key()))
            shown = json.dumps([event.as_json() for event in log], separators=(",", ":"))
            extensions |= {ra_tls.QUOTE: quote, ra_tls.EVENT_LOG: shown.encode()}
        if self.provider.kind is KeyProviderKind.KMS:
            extensions[ra_tls.APP_ID] = self.app.app_id
        if with_app_info:
            extensions[ra_tls.APP_INFO] = self._app_info()
        extensions[ra_tls.CERTIFICATE_USAGE] = b"app:custom"
        if attested and self.options.os_version != "0.5":
            report_data = ra_tls.report_data(key.public_key())
            extensions[ra_tls.ATTESTATION] = self._attestation(report_data, of_certificate)
        return self._authority.issue(key.public_key(), request, extensions)

    @property
    def mr_aggregated(self) -> bytes:
        """See the function of that name."""
        return mr_aggregated(self.measured)

    def identity(self) -> dict[str, Any]:
        """The values that a verifier can pin for it; bytes in hex."""
        measured = self.measured
        identity: dict[str, Any] = {
            "app_id": self.app.app_id.hex(),
            "compose_hash": self.app.compose_hash.hex(),
            "instance_id": self.instance_id.hex(),
            "key_provider": self.provider.kind.value,
            "key_provider_id": self.provider.id.hex(),
            "kms_root": self.provider.k256_public_key.hex(),
            "os_image_hash": OS_IMAGE_HASH.hex(),
            "gpu_policy_hash": self.app.gpu_policy_hash.hex(),
            "mrtd": measured.mrtd.hex(),
        }
        registers = {f"rtmr{number}": register.hex() for number, register in enumerate(measured.rtmrs)}
        return identity | registers | {"mr_config_id": measured.mr_config_id.hex()}

    def _attestation(self, report_data: bytes, form: Callable[[Log], Log]) -> bytes:
        log = self._log
        quote = self._platform.quote(self.measured_after(log), report_data)
        runtime = tuple(event for event in log if event.is_runtime)
        return Attestation(quote, form(log), runtime, report_data, self.vm_config).encoded()

    @property
    def _event_log_version(self) -> int:
        if self.options.os_version == "0.5":
            return 1
        return self.options.event_log_version or self.app.event_log_version

    def _compose(self) -> str:
        return default_compose(
            self.provider,
            os_version=self.options.os_version,
            event_log_version=self.options.event_log_version or 1,
            gpus=self.options.gpus,
        )

    def _instance_id(self) -> bytes:
        seed = hashlib.sha256(b"simulated guest: instance" + self.options.seed).digest()[:20]
        return hashlib.sha256(seed + self.app.app_id).digest()[:20]

    def _mr_config_version(self) -> MrConfigVersion:
        """What the host of dstack chooses: a document where the app pins its key provider, else the compose hash."""
        if not self.app.document.get("key_provider_id"):
            return MrConfigVersion.V1
        return MrConfigVersion.V2 if self.options.os_version == "0.5" else MrConfigVersion.V3

    def _runtime_events(self) -> Log:
        version, before_0_6 = self._event_log_version, self.options.os_version == "0.5"
        events = {"system-preparing": b"", "app-id": self.app.app_id, "compose-hash": self.app.compose_hash}
        if not before_0_6:
            events["gpu-policy-hash"] = self.app.gpu_policy_hash
            if self.options.gpus:
                events["gpu-attestation"] = gpu_attestation_event(self.gpu_info, self.options.gpus)
        events |= {"instance-id": self.instance_id, "boot-mr-done": b""}
        if self.provider.kind is KeyProviderKind.KMS:
            if before_0_6:
                events["mr-kms"] = MR_KMS
            events["os-image-hash"] = OS_IMAGE_HASH
        events |= {"key-provider": self.provider.info.encode(), "storage-fs": b"zfs", "system-ready": b""}
        return tuple(runtime_event(name, payload, version) for name, payload in events.items())

    def _certificate_authority(self) -> ra_tls.CertificateAuthority:
        key = self.provider.ca_key
        if self.provider.kind is not KeyProviderKind.KMS:
            return ra_tls.CertificateAuthority.root("App Root Cert", key)
        secret = key.private_numbers().private_value.to_bytes(32)
        root = ra_tls.CertificateAuthority.root("Dstack KMS CA", key, "Dstack")
        return root.app_ca(derive_p256(secret, self.app.app_id, b"app-ca"), self.app.app_id)

    def _app_info(self) -> bytes:
        """The description of the app in an RA-TLS certificate, msgpack."""
        measured, provider = self.measured, self.provider.info.encode()
        system = measured.mrtd + b"".join(measured.rtmrs[:3]) + hashlib.sha256(provider).digest()
        init_scripts: list[bytes] = []
        packed: bytes = msgpack.packb(
            [
                self.app.app_id,
                self.app.compose_hash,
                self.instance_id,
                DEVICE_ID,
                hashlib.sha256(system).digest(),
                self.mr_aggregated,
                OS_IMAGE_HASH,
                provider,
                init_scripts,
            ]
        )
        return packed


def mr_aggregated(measured: TdMeasurements) -> bytes:
    """Digest of all that is measured, 32 bytes. A configuration id or an owner counts where one is set."""
    owners = measured.mr_config_id + bytes(2 * 48)
    registers = measured.mrtd + b"".join(measured.rtmrs)
    return hashlib.sha256(registers + (owners if any(owners) else b"")).digest()
