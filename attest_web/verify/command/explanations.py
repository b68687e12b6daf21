"""What each check proves where it holds, and what it leaves open: the text behind `tee-verify --explain`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """What a check is worth.

    Attributes:
        proves: What is known where it holds.
        leaves_open: What is not known even then.
    """

    proves: str
    leaves_open: str


def explanation(name: str) -> Explanation | None:
    """What the check of a name is worth; None for one that has no more to say than its detail.

    Args:
        name: A check's name. It ends with what is checked; the first word is the algorithm, or where that is from.
    """
    matching = [what for what in _EXPLANATIONS if name == what or name.endswith(f" {what}")]
    return _EXPLANATIONS[max(matching, key=len)] if matching else None


_EXPLANATIONS: Mapping[str, Explanation] = {
    "chat": Explanation("a chat was had, and its bytes are those that the next checks are about", "all else"),
    "request hash": Explanation(
        "the signed text names exactly the request body that was sent",
        "who has signed; headers and path are not signed",
    ),
    "response hash": Explanation(
        "the signed text names exactly the response body that came", "who has signed; whether the answer is true"
    ),
    "signature": Explanation(
        "the holder of the key with this address has signed the two hashes", "where that key lives; see the report"
    ),
    "signed text": Explanation("all signatures say the same of this exchange", "whether it is true of it"),
    "receipt": Explanation(
        "the receipt and the response id find the same signature", "nothing that the others rely on"
    ),
    "key attested": Explanation(
        "the key that has signed is the one that the report is about", "whether the report holds, which the rest checks"
    ),
    "public key": Explanation("the report's public key and its address are one key", "whose key it is"),
    "address bound": Explanation(
        "the TD has put this address, and no other, into its quote",
        "that no copy of the key is elsewhere: key provider and compose file decide that",
    ),
    "nonce": Explanation(
        "the quote was made after the nonce was chosen", "how the machine was a moment before, and how it is now"
    ),
    "TLS key": Explanation(
        "the connection ends at the TLS key that the quote names",
        "that this key was never outside of the TD; a certificate of dstack's shows that it was made there (--ra-tls)",
    ),
    "keys": Explanation("the report says that its keys are random ones", "everything: it proves nothing"),
    "quote signature": Explanation(
        "a genuine TDX machine has made this quote, as Intel's certificates and revocation lists say",
        "which machine, where it stands and who owns it; attacks on the hardware",
    ),
    "TCB status": Explanation(
        "Intel knows of nothing to be patched in its firmware and microcode", "what Intel does not know of"
    ),
    "TD debug": Explanation(
        "the host cannot read or change the TD's memory by its debug mode", "attacks by other ways"
    ),
    "TD owner": Explanation(
        "no owner's configuration and no service TD, which could migrate it, belong to the TD", "nothing more"
    ),
    "RTMR0": Explanation(
        "the log has what the firmware was given: memory, boot variables, ACPI tables",
        "whether that is what it should be: --expect-os-image-hash or --expect-rtmr0",
    ),
    "RTMR1": Explanation(
        "the log has the kernel that was started", "whether it is a good one: --expect-os-image-hash or --expect-rtmr1"
    ),
    "RTMR2": Explanation(
        "the log has the kernel's command line and initrd, and with them the root file system",
        "whether they are good ones: --expect-os-image-hash or --expect-rtmr2",
    ),
    "RTMR3": Explanation(
        "the log has everything that guest and apps have measured since",
        "whether the guest has measured the truth: that is for the image, which must be pinned",
    ),
    "boot log": Explanation(
        "the guest's own events have one reading, in dstack's order, and none is an app's",
        "what an app has measured after system-ready, which is the app's own word",
    ),
    "info": Explanation(
        "what people read in the report of registers, compose hash and ids is what the quote and its log have",
        "all else in it, as names, device and host",
    ),
    "app id": Explanation(
        "the keys are those that a KMS gives to this app, and to no other",
        "which compose files the KMS gives them to as well: the owner of the app id there decides that",
    ),
    "compose hash": Explanation(
        "this compose file was started, if the image is one that measures it: pin the image",
        "what the file starts: read it; images that it does not name by digest; what it gets from outside",
    ),
    "key provider": Explanation(
        "the keys come from the provider that you, or the compose file, have named, or were made inside",
        "how that provider is run: a KMS knows every key that it gives; verify it as you verify this",
    ),
    "MRCONFIGID": Explanation(
        "the host named this compose file when it made the TD, and the hardware has signed that",
        "nothing that the boot log does not say; where it is unset, it says nothing",
    ),
    "MRTD": Explanation("the TD started with this firmware", "what came after it: RTMR0 to RTMR3"),
    "OS image": Explanation(
        "firmware, kernel, command line and initrd are those of this dstack image",
        "what the ACPI tables do, which the kernel confines; whether it is a development image: see its release",
    ),
    "key chain": Explanation(
        "the KMS with this root key has given this signing key to this app", "how that KMS is run, and what it has kept"
    ),
    "GPU nonce": Explanation("the GPU evidence says that it was made for this nonce", "whether it was"),
    "GPU evidence": Explanation(
        "each GPU has signed this nonce, as NVIDIA says", "where these GPUs are: any genuine GPU can answer any nonce"
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
        "the report shows the very text that the guest's own attestation of its GPUs put out", "what is in it"
    ),
    "GPU identity": Explanation(
        "the GPUs that answered this nonce are those that the measured image attested when it booted",
        "a host that relays to a GPU elsewhere, or swaps one after boot: nothing in TDX ties a PCI device to a TD yet",
    ),
    "GPU policy": Explanation(
        "the image attested its GPUs by the policy of the compose file, or by the one that you expect", "other policies"
    ),
    "certificate": Explanation(
        "the TLS key was made in the guest agent of the attested TD, and never left it",
        "when: a certificate holds for years, so a report with a nonce is still asked for",
    ),
}
