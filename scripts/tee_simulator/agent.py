"""The methods of dstack's guest agent on `dstack.sock`: arguments in, an answer's members out, bytes in hex.

Which methods there are depends on the release:

| release | methods |
| --- | --- |
| 0.5 (0.5.5) | EmitEvent, GetKey (one algorithm), GetQuote (log unstripped), GetTlsKey, Info |
| 0.6 (0.6.0) | Attest, GetKey, GetQuote, GetTlsKey, GpuInfo, Info, Sign, Verify, Version |
"""

import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from scripts.tee_simulator import signing
from scripts.tee_simulator.arguments import ArgumentError, Arguments
from scripts.tee_simulator.guest import DEVICE_ID, SimulatedGuest, mr_aggregated
from scripts.tee_simulator.image import OS_IMAGE_HASH
from scripts.tee_simulator.kms import UnknownAlgorithmError, public_key
from scripts.tee_simulator.ra_tls import CertificateError, CertificateRequest
from scripts.tee_simulator.tdx import REPORT_DATA_SIZE

JsonObject = dict[str, Any]
Read = Callable[[], Arguments]
"""Parses a call's arguments. A method without arguments does not call it, and so ignores malformed ones."""

Method = Callable[[Read], JsonObject | None]

VERSION = "0.6.0"
REVISION = "git:" + "0" * 20
"""In place of the commit in a real agent's version."""

VENDOR = "dstack simulator"
SIGNING_PATH, SIGNING_PURPOSE = "vms", "signing"
"""Of the key that `Sign` signs with."""


class RequestError(Exception):
    """A call that the guest agent rejects, always with status 400."""


class GuestAgent:
    """Serves the calls of a guest. Thread-safe."""

    def __init__(self, guest: SimulatedGuest) -> None:
        self._guest = guest
        self._is_0_5 = guest.options.os_version == "0.5"
        # A real agent issues this in the background, so an early client finds it empty.
        demo = CertificateRequest(subject="demo-cert", client_auth=True)
        self._demo_certificate = "\n".join(guest.issue(ec.generate_private_key(ec.SECP256R1()), demo, attested=True))
        shared: dict[str, Method] = {
            "GetKey": self.get_key,
            "GetQuote": self._get_quote,
            "GetTlsKey": self._get_tls_key,
            "Info": self.info,
        }
        of_release: dict[str, Method] = {"EmitEvent": self._emit_event}
        if not self._is_0_5:
            of_release = {
                "Attest": self._attest,
                "GpuInfo": self._gpu_info,
                "Sign": self._sign,
                "Verify": self._verify,
                "Version": self.version,
            }
        self._methods = shared | of_release

    def answer(self, method: str, read: Read) -> JsonObject | None:
        """Serve a call.

        Args:
            method: Its name.
            read: Reads its arguments.

        Raises:
            RequestError: The method is unknown, or its arguments are invalid.
        """
        return dispatch(self._methods, method, read)

    def get_key(self, read: Read) -> JsonObject:
        """`GetKey`. A release with only one algorithm ignores the requested algorithm."""
        arguments = read()
        algorithm = "" if self._is_0_5 else arguments.text("algorithm")
        key, chain = self._guest.keys.get_key(arguments.text("path"), arguments.text("purpose"), algorithm)
        return {"key": key.hex(), "signature_chain": [signature.hex() for signature in chain]}

    def info(self, _: Read) -> JsonObject:
        """`Info`."""
        guest = self._guest
        log = guest.log  # a snapshot: an app may emit an event while registers and log are read
        measured = guest.measured_after(log)
        aggregated, compose_hash = mr_aggregated(measured).hex(), guest.app.compose_hash.hex()
        tcb_info = {
            "mrtd": measured.mrtd.hex(),
            **{f"rtmr{number}": register.hex() for number, register in enumerate(measured.rtmrs)},
            "mr_aggregated": aggregated,
            "os_image_hash": OS_IMAGE_HASH.hex(),
            "compose_hash": compose_hash,
            "device_id": DEVICE_ID.hex(),
            "event_log": [event.as_json() for event in log],
            "app_compose": guest.app.compose,
        }
        info = {
            "app_id": guest.app.app_id.hex(),
            "instance_id": guest.instance_id.hex(),
            "app_cert": self._demo_certificate,
            "tcb_info": json.dumps(tcb_info, indent=2, ensure_ascii=False),
            "app_name": str(guest.app.document.get("name", "")),
            "device_id": DEVICE_ID.hex(),
            "mr_aggregated": aggregated,
            "os_image_hash": OS_IMAGE_HASH.hex(),
            "key_provider_info": guest.provider.info,
            "compose_hash": compose_hash,
            "vm_config": guest.vm_config,
        }
        return info if self._is_0_5 else info | {"cloud_vendor": VENDOR, "cloud_product": VENDOR}

    def version(self, _: Read) -> JsonObject:
        """`Version`."""
        return {"version": VERSION, "rev": REVISION}

    def _get_quote(self, read: Read) -> JsonObject:
        report_data = _report_data(read())
        quote, log = self._guest.quote(report_data)
        return {
            "quote": quote.hex(),
            "event_log": json.dumps([event.as_json() for event in log], separators=(",", ":"), ensure_ascii=False),
            "report_data": report_data.hex(),
            "vm_config": self._guest.vm_config,
        }

    def _attest(self, read: Read) -> JsonObject:
        return {"attestation": self._guest.attestation(_report_data(read())).hex()}

    def _gpu_info(self, _: Read) -> JsonObject:
        return {"attestation": self._guest.gpu_info}

    def _get_tls_key(self, read: Read) -> JsonObject:
        arguments = read()
        request = CertificateRequest(
            subject=arguments.text("subject"),
            alt_names=arguments.texts("alt_names"),
            server_auth=arguments.flag("usage_server_auth"),
            client_auth=arguments.flag("usage_client_auth"),
            not_before=None if self._is_0_5 else arguments.number("not_before"),
            not_after=None if self._is_0_5 else arguments.number("not_after"),
        )
        key = ec.generate_private_key(ec.SECP256R1())
        chain = self._guest.issue(
            key,
            request,
            attested=arguments.flag("usage_ra_tls"),
            with_app_info=not self._is_0_5 and arguments.flag("with_app_info"),
        )
        return {"key": private_key_pem(key), "certificate_chain": chain}

    def _sign(self, read: Read) -> JsonObject:
        arguments = read()
        algorithm, data = arguments.text("algorithm"), arguments.binary("data")
        if not algorithm:  # other than GetKey, it has no default
            raise UnknownAlgorithmError("Unsupported algorithm")
        of_key = signing.key_algorithm(algorithm)
        key, chain = self._guest.keys.get_key(SIGNING_PATH, SIGNING_PURPOSE, of_key)
        signature = signing.sign(key, algorithm, data)
        return {
            "signature": signature.hex(),
            "signature_chain": [link.hex() for link in (signature, *chain)],
            "public_key": public_key(key, of_key).hex(),
        }

    def _verify(self, read: Read) -> JsonObject:
        arguments = read()
        key, signature = arguments.binary("public_key"), arguments.binary("signature")
        algorithm, data = arguments.text("algorithm"), arguments.binary("data")
        return {"valid": signing.verify(key, algorithm, data, signature)}

    def _emit_event(self, read: Read) -> None:
        arguments = read()
        self._guest.emit(arguments.text("event"), arguments.binary("payload"))


def dispatch(methods: dict[str, Method], method: str, read: Read) -> JsonObject | None:
    """Call the method of a name.

    Raises:
        RequestError: There is none, or it does not take those arguments.
    """
    if method not in methods:
        raise RequestError(f"Service not found: {method}")
    try:
        return methods[method](read)
    except (ArgumentError, CertificateError, UnknownAlgorithmError, signing.MalformedError) as error:
        raise RequestError(str(error)) from None


def _report_data(arguments: Arguments) -> bytes:
    report_data = arguments.binary("report_data")
    if len(report_data) > REPORT_DATA_SIZE:
        raise RequestError("Report data is too long")
    return report_data.ljust(REPORT_DATA_SIZE, b"\0")


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as the agent gives it: PKCS #8 in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
