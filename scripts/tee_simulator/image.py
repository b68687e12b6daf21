"""The OS image that a simulated guest claims to run, and what booting it measures.

The values are those of a release of dstack, reported by a guest on real hardware: image hash, measurement material,
memory, and the digests of the events of RTMR0 to RTMR2. So a verifier that recomputes the boot registers from the image
hash gets the same results as on hardware. Only the quote's signature, which leads to the simulator's own root, shows
that the hardware is simulated.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from scripts.tee_simulator.event_log import (
    ACPI_DATA,
    EFI_ACTION,
    EFI_BOOT_SERVICES_APPLICATION,
    EFI_HANDOFF_TABLES2,
    EFI_PLATFORM_FIRMWARE_BLOB2,
    EFI_VARIABLE_BOOT,
    EFI_VARIABLE_DRIVER_CONFIG,
    EVENT_TAG,
    PLATFORM_CONFIG_FLAGS,
    SEPARATOR,
    Event,
    Log,
)

OS_IMAGE_HASH = bytes.fromhex("e6f5cfec20c02e7b97baa213d0f718020b55e040172d90ccbcb946d56c8b09db")
MRTD = bytes.fromhex("fd685522ce791dfef67414614eb07d03fc07a32c5a66f36288b329dab92b724b1564c73d436ffb9ea84488c51ac5a1c5")
"""Measurement of the firmware, as QEMU 8.2 loads it."""

CPU_COUNT = 2
MEMORY_SIZE = 2 << 30
"""Bytes. RTMR0 depends on it: the firmware measures the memory map."""

_MEASUREMENT = (
    "o2d2ZXJzaW9uA2VpbWFnZaNuY21kbGluZV9zaGEzODRYMHhigIQrc2Qoejpw2W9+MJJShXvrRfsfkTFKLqhj2wrcBMhDHsvympZkBWBGMaWquHNr"
    "ZXJuZWxfYXV0aGVudGljb2RlWDCsfmMtz1zSof5cH0H02bghlXDmTtPGEDj9vyVATm9UL/1X8na8UHYwfvr4gubWQXdtaW5pdHJkX3NoYTM4NFgw"
    "T+T3cQE0ph197zV63WrFC9v+7lAypMEAN14gchb/5Co71YIrJOZ5+RUB//eVuBUhZHRkdmajZG92bWZpcHJlMjAyNTA1ZG1ydGSia3NpbmdsZV9w"
    "YXNzWDCm8qyUUYEGhqTbJZ/o+lQ43EpYvan9L1sfsJKDNXBVANKaFckjh0FqL1Ld3Omcg/hodHdvX3Bhc3NYMP1oVSLOeR3+9nQUYU6wfQP8B6Ms"
    "WmbzYoizKdq5K3JLFWTHPUNv+56oRIjFGsWhxWZ0ZF9ob2JMgBAJBAAGCQILAhAQ"
)
"""`measurement.tdx.cbor` of the image, in base64."""

_CHECKSUM_FILE = (
    "OGM5ZTk1NWYwYjU3N2NjODk0NWE4OTFhMzRjY2ZhNWI4ZTA4YmI1ZTVkMjQ5OTkyNjAzZTY0ZGQxNDg3MGUzYyAgbWVhc3VyZW1lbnQudGR4LmNi"
    "b3IK"
)
"""What the image's hash is the SHA-256 of, in base64: the checksum of the measurement material."""

_TD_HOB = "0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749"
_FIRMWARE_VOLUME = "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790"
_BOOT0000 = "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298"
_KERNEL = "ac7e632dcf5cd2a1fe5c1f41f4d9b8219570e64ed3c61038fdbf25404e6f542ffd57f276bc5076307efaf882e6d64177"
_COMMAND_LINE = "786280842b7364287a3a70d96f7e309252857beb45fb1f91314a2ea863db0adc04c8431ecbf29a966405604631a5aab8"
_INITRD = "4fe4f7710134a61d7def357add6ac50bdbfeee5032a4c100375e207216ffe42a3bd5822b24e679f91501fff795b81521"
_ACPI_TABLES = {
    "acpi-loader": "095d04cf26fe03aef6e3561fa24c1aa1cea93f4aeaf563b1f9f7616184c53454875925759434769cec2490acb563a337",
    "acpi-rsdp": "8d9a4d4777a1bc77ecd9d8d37a4628129a80052a510320159a20a923bd07a0e90d8d1f2e1ebf088992b25f0d0fa672ef",
    "acpi-tables": "3070721e169bc41884724cb0e6b3082e1baf249083d8b389181ba50b9afa951057876c380b8870e8c2facf2eff67a2b6",
}

_GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_IMAGE_SECURITY_DATABASE = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")


@dataclass(frozen=True)
class VirtualMachine:
    """How the host runs the image: the machine's shape, and what it tells verifiers of it.

    Attributes:
        gpus: How many GPUs it passes through.
        lite: Whether verifiers may recompute the registers from the measurement material (`lite`), without the image.
            Otherwise that is left out (`legacy`).
        mr_config: The document that MRCONFIGID is the hash of, if there is one.
        os_version: dstack's, "0.6" or "0.5": before 0.6 there was no measurement material, and no document.
    """

    gpus: int = 0
    lite: bool = True
    mr_config: str | None = None
    os_version: str = "0.6"

    def config(self) -> str:
        """`vm_config` as dstack has it, compact JSON."""
        return json.dumps(self._config(), separators=(",", ":"))

    def _config(self) -> dict[str, Any]:
        shape: dict[str, Any] = {
            "os_image_hash": OS_IMAGE_HASH.hex(),
            "cpu_count": CPU_COUNT,
            "memory_size": MEMORY_SIZE,
            "qemu_version": "8.2.2",
            "pci_hole64_size": 0,
            "hugepages": False,
            "num_gpus": self.gpus,
            "num_nvswitches": 0,
            "hotplug_off": False,
        }
        if self.os_version == "0.5":
            return {"spec_version": 1, **shape, "image": "dstack-0.5.5"}
        shape |= {"image": "dstack-0.6.0", "host_share_mode": "9p", "ovmf_variant": "pre202505"}
        if self.lite:
            material = {"measurement": _MEASUREMENT, "checksum_file": _CHECKSUM_FILE}
            shape |= {"tdx_attestation_variant": "lite", "tdx_measurement": material}
        if self.mr_config is not None:
            shape["mr_config"] = self.mr_config
        return shape | {"spec_version": 1}


def boot_events(*, named_tables: bool = True) -> Log:
    """What firmware, boot loader and kernel measure into registers 0 to 2, in the order of a real boot.

    Args:
        named_tables: Whether the events of the ACPI tables say which table they are of, as from dstack 0.6 on.
    """
    tables = [
        Event(0, PLATFORM_CONFIG_FLAGS, bytes.fromhex(digest), name if named_tables else "", ACPI_DATA)
        for name, digest in _ACPI_TABLES.items()
    ]
    return (
        Event(0, EFI_HANDOFF_TABLES2, bytes.fromhex(_TD_HOB), "", b"\x09TdxTable\0\x01" + bytes(31)),
        Event(0, EFI_PLATFORM_FIRMWARE_BLOB2, bytes.fromhex(_FIRMWARE_VOLUME), "", b")Fv(" + bytes(54)),
        _driver_variable(_GLOBAL_VARIABLE, "SecureBoot"),
        _driver_variable(_GLOBAL_VARIABLE, "PK"),
        _driver_variable(_GLOBAL_VARIABLE, "KEK"),
        _driver_variable(_IMAGE_SECURITY_DATABASE, "db"),
        _driver_variable(_IMAGE_SECURITY_DATABASE, "dbx"),
        _hashed(0, SEPARATOR, bytes(4)),
        *tables,
        Event(1, EFI_BOOT_SERVICES_APPLICATION, bytes.fromhex(_KERNEL), "", _utf16("kernel")),
        Event(0, EFI_VARIABLE_BOOT, hashlib.sha384(bytes(2)).digest(), "", _variable(_GLOBAL_VARIABLE, "BootOrder")),
        Event(0, EFI_VARIABLE_BOOT, bytes.fromhex(_BOOT0000), "", _variable(_GLOBAL_VARIABLE, "Boot0000")),
        _hashed(1, EFI_ACTION, b"Calling EFI Application from Boot Option"),
        _hashed(1, SEPARATOR, bytes(4)),
        Event(2, EVENT_TAG, bytes.fromhex(_COMMAND_LINE), "", b"LOADED_IMAGE::LoadOptions\0"),
        Event(2, EVENT_TAG, bytes.fromhex(_INITRD), "", b"Linux initrd\0"),
        _hashed(1, EFI_ACTION, b"Exit Boot Services Invocation"),
        _hashed(1, EFI_ACTION, b"Exit Boot Services Returned with Success"),
    )


def _hashed(imr: int, event_type: int, payload: bytes) -> Event:
    return Event(imr, event_type, hashlib.sha384(payload).digest(), "", payload)


def _driver_variable(vendor: bytes, name: str) -> Event:
    """A variable that is not set: what is measured is the event's own payload (UEFI_VARIABLE_DATA)."""
    return _hashed(0, EFI_VARIABLE_DRIVER_CONFIG, _variable(vendor, name))


def _variable(vendor: bytes, name: str) -> bytes:
    return vendor + len(name).to_bytes(8, "little") + bytes(8) + _utf16(name)


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le")
