"""An attestation report, parsed.

A report is about one key. Some proxies repeat it in the lists `all_attestations` and `model_attestations`, which are
all that some verifiers read. So that every verifier reads the same report, each of these lists must hold this report
alone, equal to the top level without the lists. A list with more entries would hold reports that are not checked here:
the report on another key is requested by its `signing_address`.
"""

import json
from functools import cached_property

from attest_web.attestation.report_data import NONCE_BYTES
from attest_web.signatures import SigningAlgo
from attest_web.verify import binding
from attest_web.verify.dstack.boot_log import APP_ID_BYTES
from attest_web.verify.dstack.event_log import Event, parse_event_log
from attest_web.verify.nvidia.evidence import CANNED_NONCE, GpuPayload
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import TdxQuote
from attest_web.verify.primitives.untrusted_json import (
    JsonObject,
    as_object,
    hex_bytes,
    items,
    member,
    parse_json,
    parse_object,
    text,
)
from attest_web.verify.signed_text import address_bytes, signing_algo

MAX_BYTES = 8 * 1024 * 1024
"""Largest accepted report, in bytes. With eight GPUs, a report takes some 600,000 bytes, as it occurs three times."""

LISTS = ("all_attestations", "model_attestations")
"""Members that repeat the report."""

MAX_LOG = 1024 * 1024
"""Largest accepted event log, in characters, where it is a JSON text in the report."""

_WHAT = "the report"


class Report:
    """A report, whose fields are parsed on first use. A malformed field raises `FailedError`."""

    def __init__(self, source: JsonObject) -> None:
        self._source = source
        self._malformed_log: FailedError | None = None

    @classmethod
    def parse(cls, data: bytes) -> "Report":
        """Parse a report.

        Raises:
            FailedError: It is not a JSON object, is longer than `MAX_BYTES`, or its `LISTS` hold another report.
        """
        if len(data) > MAX_BYTES:
            raise FailedError(f"the report is {len(data)} bytes long; more than {MAX_BYTES} are not read")
        source = parse_object(data, _WHAT)
        alone = {name: value for name, value in source.items() if name not in LISTS}
        for name in LISTS:
            if name in source:
                _check_listed(alone, name, source[name])
        return cls(alone)

    @property
    def dev(self) -> bool:
        """Whether it says that its keys are those of a development run. Any value but false counts as true."""
        claim = self._source.get("dev")
        return claim is not None and claim is not False

    @property
    def holds_canned_evidence(self) -> bool:
        """Whether its GPU evidence is NVIDIA's canned one."""
        try:
            return CANNED_NONCE in self.gpu_payload.evidence_nonces
        except FailedError:
            return False

    @cached_property
    def algo(self) -> SigningAlgo:
        """The algorithm of the key that it is about."""
        return signing_algo(self._source, _WHAT)

    @cached_property
    def address(self) -> bytes:
        """The address that it is about, 20 or 32 bytes."""
        return address_bytes(self.algo, text(self._source, "signing_address", _WHAT))

    @cached_property
    def public_key(self) -> bytes:
        """The public key that it is about, 64 or 32 bytes."""
        return hex_bytes(
            text(self._source, "signing_public_key", _WHAT), "signing_public_key", binding.PUBLIC_KEY_BYTES[self.algo]
        )

    @cached_property
    def nonce(self) -> bytes:
        """The nonce, 32 bytes, that it states."""
        return hex_bytes(text(self._source, "request_nonce", _WHAT), "request_nonce", NONCE_BYTES)

    @cached_property
    def tls_key(self) -> bytes | None:
        """SHA-256 of the SPKI of the TLS certificate that it is about; None without one."""
        if self._source.get("tls_cert_fingerprint") is None:
            return None
        fingerprint = text(self._source, "tls_cert_fingerprint", _WHAT)
        return hex_bytes(fingerprint, "tls_cert_fingerprint", binding.SHA256_BYTES)

    @cached_property
    def quote_bytes(self) -> bytes:
        """The quote."""
        return hex_bytes(text(self._source, "intel_quote", _WHAT), "intel_quote")

    @cached_property
    def quote(self) -> TdxQuote:
        """The quote, read."""
        return TdxQuote.parse(self.quote_bytes)

    @cached_property
    def events(self) -> list[Event]:
        """The event log: a list, or the JSON text of one, which NEAR AI's gateway passes on as dstack made it."""
        # Many checks use the log, and a long malformed one must not be parsed for each of them.
        if self._malformed_log is not None:
            raise self._malformed_log
        try:
            return self._read_events()
        except FailedError as error:
            self._malformed_log = error
            raise

    def _read_events(self) -> list[Event]:
        entries = self._source.get("event_log")
        if not isinstance(entries, str):
            return parse_event_log(items(self._source, "event_log", _WHAT))
        if len(entries) > MAX_LOG:
            raise FailedError(f"event_log is {len(entries)} characters long; more than {MAX_LOG} are not read")
        return parse_event_log(items({"event_log": parse_json(entries, "event_log")}, "event_log", _WHAT))

    @cached_property
    def info(self) -> JsonObject:
        """The guest agent's description of the app: claims, except where they agree with the quote and its log."""
        return as_object(member(self._source, "info", _WHAT), "info")

    @cached_property
    def tcb_info(self) -> JsonObject:
        """`info.tcb_info`, an object or the JSON text of one."""
        value = member(self.info, "tcb_info", "info")
        return parse_object(value, "tcb_info") if isinstance(value, str) else as_object(value, "tcb_info")

    @cached_property
    def app_compose(self) -> str:
        """The compose file of `info.tcb_info`."""
        return text(self.tcb_info, "app_compose", "tcb_info")

    @cached_property
    def vm_config(self) -> JsonObject:
        """The host's description of the virtual machine, from the report or its `info`; empty without one."""
        value = self._source.get("vm_config")
        if value is None:
            info = self._source.get("info")
            value = info.get("vm_config") if isinstance(info, dict) else None
        if value in (None, ""):
            return {}
        return parse_object(value, "vm_config") if isinstance(value, str) else as_object(value, "vm_config")

    @cached_property
    def app_id(self) -> bytes | None:
        """The app's id that it states, 20 bytes; None without one."""
        if self._source.get("app_id") is None:
            return None
        return hex_bytes(text(self._source, "app_id", _WHAT), "app_id", APP_ID_BYTES)

    @cached_property
    def signature_chain(self) -> list[bytes] | None:
        """The signatures that lead from the key to the KMS that issued it; None without any."""
        if self._source.get("signature_chain") is None:
            return None
        chain = items(self._source, "signature_chain", _WHAT)
        if not all(isinstance(each, str) for each in chain):
            raise FailedError("signature_chain is not a list of signatures")
        return [hex_bytes(each, "a signature in signature_chain") for each in chain]

    @cached_property
    def gpu_info(self) -> str | None:
        """The output of the guest's own attestation of its GPUs at boot; None without one."""
        return None if self._source.get("gpu_info") is None else text(self._source, "gpu_info", _WHAT)

    @cached_property
    def gpu_payload(self) -> GpuPayload:
        """The GPU evidence."""
        return GpuPayload.parse(text(self._source, "nvidia_payload", _WHAT))


def _check_listed(alone: JsonObject, name: str, listed: object) -> None:
    if not isinstance(listed, list):
        raise FailedError(f"{name!r} of the report is {'null' if listed is None else 'not a list'}")
    if len(listed) != 1:
        raise FailedError(f"{name!r} of the report has {len(listed)} entries, not this report alone")
    # Not compared with ==, for which 1, 1.0 and True are equal.
    if _canonical(listed[0]) != _canonical(alone):
        raise FailedError(f"{name!r} of the report has an entry that differs from the report itself")


def _canonical(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except RecursionError:
        raise FailedError("the report is nested too deeply to be read") from None
