"""The checks of a dstack guest: the origin of its quote, its measurements, and its key provider."""

from collections.abc import Callable
from typing import Protocol

from attest_web.verify.dstack import event_log
from attest_web.verify.dstack.boot_log import BootLog
from attest_web.verify.dstack.compose import check_compose, demands_acpi_check
from attest_web.verify.dstack.key_provider import check_key_provider, pinned_by_compose
from attest_web.verify.dstack.mr_config import check_mr_config_id, is_unset
from attest_web.verify.dstack.os_image import check_os_image
from attest_web.verify.policy import Policy
from attest_web.verify.primitives import quote
from attest_web.verify.primitives.checks import Check, FailedError, NotAskedError, NotMadeError, Status, make
from attest_web.verify.primitives.untrusted_json import JsonObject, text


class GuestEvidence(Protocol):
    """The evidence about a guest. Each part raises `FailedError` where it is malformed."""

    # Read-only members, so that both cached properties and attributes satisfy the protocol.
    @property
    def quote_bytes(self) -> bytes:
        """The quote."""

    @property
    def quote(self) -> quote.TdxQuote:
        """The quote, read."""

    @property
    def events(self) -> list[event_log.Event]:
        """The event log."""

    @property
    def app_compose(self) -> str | None:
        """The app's compose document, exactly as it was measured; None where the evidence has none."""

    @property
    def vm_config(self) -> JsonObject:
        """The host's description of the virtual machine; empty without one."""

    @property
    def app_id(self) -> bytes | None:
        """The app's id, 20 bytes, where the evidence names one."""


def boot_log(evidence: GuestEvidence) -> BootLog:
    """The guest's boot log, checked to replay to the quoted register.

    Raises:
        FailedError: The log does not replay to RTMR3, or is not of dstack's form.
    """
    event_log.check_replay(evidence.events, event_log.RUNTIME_REGISTER, evidence.quote)
    return BootLog.parse(evidence.events)


def quote_checks(name: str, evidence: GuestEvidence, policy: Policy) -> list[Check]:
    """Check the origin of the quote, and the TCB status of its platform."""
    tcb_status = f"{name} TCB status"
    try:
        evidence.quote  # noqa: B018  # fails here for a quote of another kind than TDX
        verdict = policy.verify_quote(evidence.quote_bytes)
    except FailedError as error:
        signature = Check(f"{name} quote signature", Status.FAILED, str(error))
    except NotMadeError as error:
        signature = Check(f"{name} quote signature", Status.NOT_MADE, str(error))
    else:
        status = verdict.tcb_status + "".join(f", {advisory}" for advisory in verdict.advisory_ids)

        def allowed() -> str:
            if verdict.tcb_status not in policy.allowed_tcb:
                raise FailedError(f"{status}; --allow-tcb-status {verdict.tcb_status} allows it")
            return status

        signature = Check(f"{name} quote signature", Status.PASSED, "the certificate chain holds, up to the root")
        return [signature, make(tcb_status, allowed)]
    return [signature, Check(tcb_status, Status.NOT_MADE, "the quote's signature was not verified")]


def guest_checks(name: str, evidence: GuestEvidence, policy: Policy, *, whole_log: bool = True) -> list[Check]:
    """Make the checks of a guest.

    Args:
        name: First word of their names.
        evidence: Its evidence.
        policy: What the verifier requires.
        whole_log: Whether the log must replay to RTMR0 to RTMR2 as well. The log in a dstack certificate cannot: these
            registers are then only compared with the image's hash or known values.
    """
    registers = range(event_log.REGISTERS)
    return [
        make(f"{name} TD debug", lambda: quote.check_debug_off(evidence.quote)),
        make(f"{name} TD owner", lambda: quote.check_owner_unset(evidence.quote)),
        *(make(f"{name} RTMR{register}", _register(evidence, policy, register, whole_log)) for register in registers),
        make(f"{name} boot log", lambda: _check_boot_log(evidence)),
        make(f"{name} app id", lambda: _check_app_id(evidence, policy)),
        make(f"{name} compose hash", lambda: _check_compose(evidence, policy)),
        make(f"{name} key provider", lambda: _check_key_provider(evidence, policy)),
        make(f"{name} MRCONFIGID", lambda: _check_mr_config_id(evidence, policy)),
        make(f"{name} MRTD", lambda: _check_mrtd(evidence, policy)),
        make(f"{name} OS image", lambda: _check_os_image(evidence, policy)),
    ]


def _register(evidence: GuestEvidence, policy: Policy, register: int, whole_log: bool) -> Callable[[], str]:
    expected = policy.rtmrs.get(register)

    def replayed() -> str:
        return event_log.check_replay(evidence.events, register, evidence.quote, expected)

    def known() -> str:
        if expected is None:
            raise NotAskedError(f"the log has no events of it; --expect-rtmr{register} compares it with a known value")
        return _check_known(evidence.quote.rtmrs[register], expected)

    return replayed if whole_log or register == event_log.RUNTIME_REGISTER else known


def _check_known(quoted: bytes, expected: bytes) -> str:
    if quoted != expected:
        raise FailedError(f"it is {quoted.hex()}, not the expected {expected.hex()}")
    return f"{quoted.hex()}, as expected"


def _check_boot_log(evidence: GuestEvidence) -> str:
    boot = boot_log(evidence)
    measured = boot.app_id.hex()
    if evidence.app_id is not None and evidence.app_id != boot.app_id:
        raise FailedError(f"the report names the app {evidence.app_id.hex()}, {measured} was measured")
    return f"dstack's events, in dstack's order; app {measured}, instance {boot.instance_id.hex() or 'unnamed'}"


def _check_app_id(evidence: GuestEvidence, policy: Policy) -> str:
    if not policy.app_ids:
        raise NotAskedError("not asked for; --expect-app-id compares it with a known id")
    measured = boot_log(evidence).app_id
    if measured not in policy.app_ids:
        raise FailedError(f"it is {measured.hex()}, which is not an expected one")
    return f"{measured.hex()}, as expected"


def _check_compose(evidence: GuestEvidence, policy: Policy) -> str:
    return check_compose(boot_log(evidence).compose_hash, evidence.app_compose, policy.compose_hash)


def _check_key_provider(evidence: GuestEvidence, policy: Policy) -> str:
    boot = boot_log(evidence)
    pinned = None
    if evidence.app_compose is not None:
        check_compose(boot.compose_hash, evidence.app_compose, None)
        pinned = pinned_by_compose(evidence.app_compose)
    return check_key_provider(boot.key_provider, policy.key_providers, pinned)


def _check_mr_config_id(evidence: GuestEvidence, policy: Policy) -> str:
    if is_unset(evidence.quote) and not policy.require_mr_config_id:
        raise NotAskedError("unset: the host states nothing in it; --require-mr-config-id requires that it does")
    vm_config = evidence.vm_config
    document = text(vm_config, "mr_config", "vm_config") if vm_config.get("mr_config") is not None else None
    return check_mr_config_id(evidence.quote, boot_log(evidence), document)


def _check_mrtd(evidence: GuestEvidence, policy: Policy) -> str:
    if policy.mrtd is None:
        raise NotAskedError("not asked for; --expect-mrtd compares it with a known value")
    return _check_known(evidence.quote.mrtd, policy.mrtd)


def _check_os_image(evidence: GuestEvidence, policy: Policy) -> str:
    if not policy.os_image_hashes:
        raise NotAskedError("not asked for; --expect-os-image-hash compares the registers with an image's hash")
    found = check_os_image(evidence.quote, evidence.events, evidence.vm_config, policy.os_image_hashes)
    if evidence.app_compose is not None:
        check_compose(boot_log(evidence).compose_hash, evidence.app_compose, None)
        if demands_acpi_check(evidence.app_compose):
            # The guest compares its variant with this, and only the host states which variant it was.
            raise NotMadeError(
                "the compose file requires a check of the ACPI tables (tdx_measure_acpi_tables), which takes the image:"
                " give --expect-mrtd and --expect-rtmr0 to --expect-rtmr2, or ask dstack-verifier"
            )
    return found
