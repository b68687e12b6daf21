"""What each check proves if it holds, and what it leaves open: the text of `tee-verify --explain`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """The meaning of a check.

    Attributes:
        proves: What is proved if it holds.
        leaves_open: What remains unknown even then.
    """

    proves: str
    leaves_open: str


def explanation(name: str) -> Explanation | None:
    """The explanation of a check; None for a check whose detail says everything.

    Args:
        name: The check's name. It ends with what is checked; its first word is the algorithm, or the evidence's source.
    """
    matching = [what for what in _EXPLANATIONS if name == what or name.endswith(f" {what}")]
    return _EXPLANATIONS[max(matching, key=len)] if matching else None


_EXPLANATIONS: Mapping[str, Explanation] = {
    "chat": Explanation("the chat succeeded; the next checks are about its bytes", "everything else"),
    "request hash": Explanation(
        "the signed text names exactly the request body that was sent",
        "which key has signed; headers and path are not signed",
    ),
    "response hash": Explanation(
        "the signed text names exactly the response body that was received",
        "which key has signed; whether the response is true",
    ),
    "signature": Explanation(
        "the holder of the key with this address has signed the two hashes", "where that key is held; see the report"
    ),
    "signed text": Explanation("all signatures are over the same text", "whether that text is true of this exchange"),
    "receipt": Explanation(
        "the receipt and the response id find the same signature", "nothing that other checks rely on"
    ),
    "key attested": Explanation(
        "the signing key is the key that the report is about", "whether the report holds; see the other checks"
    ),
    "public key": Explanation("the report's public key and address belong together", "who holds the key"),
    "address bound": Explanation(
        "the TD has put this address, and no other, into its quote",
        "whether a copy of the key exists elsewhere: key provider and compose file decide that",
    ),
    "nonce": Explanation(
        "the quote was made after the nonce was chosen", "how the machine was a moment before, and how it is now"
    ),
    "TLS key": Explanation(
        "the connection ends at the TLS key that the quote names",
        "whether this key was ever outside the TD; a dstack certificate proves that it was made there (--ra-tls)",
    ),
    "keys": Explanation("the report says that its keys are random", "everything: it proves nothing"),
    "quote signature": Explanation(
        "a genuine TDX machine has made this quote, as Intel's certificates and revocation lists say",
        "which machine, where it is and who owns it; attacks on the hardware",
    ),
    "TCB status": Explanation(
        "Intel knows of no missing patch of its firmware and microcode", "flaws that Intel does not know of"
    ),
    "TD debug": Explanation("the host cannot read or change the TD's memory through its debug mode", "other attacks"),
    "TD owner": Explanation(
        "the TD has no owner's configuration, and no service TD, which could migrate it", "nothing more"
    ),
    "RTMR0": Explanation(
        "the log has what the firmware was given: memory, boot variables, ACPI tables",
        "whether these are the right ones: --expect-os-image-hash or --expect-rtmr0",
    ),
    "RTMR1": Explanation(
        "the log has the kernel that was started",
        "whether it is the right one: --expect-os-image-hash or --expect-rtmr1",
    ),
    "RTMR2": Explanation(
        "the log has the kernel's command line and initrd, and with them the root file system",
        "whether they are the right ones: --expect-os-image-hash or --expect-rtmr2",
    ),
    "RTMR3": Explanation(
        "the log has everything that guest and apps have measured since",
        "whether the guest has measured the truth: this depends on the image, which must be pinned",
    ),
    "boot log": Explanation(
        "the guest's own events are unambiguous, in dstack's order, and none is an app's",
        "what an app has measured after system-ready, which is the app's own claim",
    ),
    "info": Explanation(
        "the registers, compose hash and ids that the report states are those of the quote and its log",
        "everything else that it states, such as names, device and host",
    ),
    "app id": Explanation(
        "the keys are those that a KMS issues to this app, and to no other",
        "to which other compose files the KMS issues them: the owner of the app id decides that",
    ),
    "compose hash": Explanation(
        "this compose file was started, if the image is one that measures it: pin the image",
        "what the file starts: read it; images that it does not name by digest; what it downloads",
    ),
    "key provider": Explanation(
        "the keys come from the provider that you, or the compose file, have named, or were generated in the guest",
        "how that provider is run: a KMS knows every key that it issues; verify it as you verify this",
    ),
    "MRCONFIGID": Explanation(
        "the host named this compose file when it made the TD, and the hardware has signed that",
        "whether it was set at all: unset, it proves nothing; the boot log proves the rest",
    ),
    "MRTD": Explanation("the TD started with this firmware", "what came after it: RTMR0 to RTMR3"),
    "OS image": Explanation(
        "firmware, kernel, command line and initrd are those of this dstack image",
        "what the ACPI tables do, which the kernel confines; whether it is a development image: see its release notes",
    ),
    "key chain": Explanation(
        "the KMS with this root key has issued this signing key to this app", "how that KMS is run; it knows the key"
    ),
    "GPU nonce": Explanation("the GPU evidence says that it was made for this nonce", "whether it was"),
    "GPU evidence": Explanation(
        "each GPU has signed this nonce, as NVIDIA says", "where these GPUs are: any genuine GPU can sign any nonce"
    ),
    "NVIDIA verdict": Explanation(
        "NVIDIA says that the GPUs are genuine, in confidential mode, with firmware that it knows",
        "where they are, and whether this TD uses them",
    ),
    "GPU attested at boot": Explanation(
        "the measured image found as many GPUs on its own bus, in confidential mode, before it got any key",
        "whether they are the ones that answered now: GPU identity",
    ),
    "GPU boot evidence": Explanation(
        "the report has the exact output of the guest's own attestation of its GPUs", "what the output says"
    ),
    "GPU identity": Explanation(
        "the GPUs that answered this nonce are those that the measured image attested when it booted",
        "a host that relays to a GPU elsewhere, or swaps one after boot: TDX does not bind PCI devices to a TD yet",
    ),
    "GPU policy": Explanation(
        "the image attested its GPUs by the policy of the compose file, or by the one that you expect",
        "whether that policy is strict enough",
    ),
    "certificate": Explanation(
        "the TLS key was made in the guest agent of the attested TD, and never left it",
        "when: a certificate is valid for years, so a report with a nonce is still required",
    ),
}
