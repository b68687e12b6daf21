"""The part of SPDM (DMTF DSP0274) that is parsed: the nonce of a GPU's evidence."""

import base64

_GET_MEASUREMENTS = 0xE0
_REQUEST_BYTES = 37
_NONCE = slice(4, 36)


def evidence_nonce(evidence: str) -> bytes:
    """The nonce that a GPU signed.

    Args:
        evidence: An attestation report in base64, the `evidence` of one GPU: the SPDM GET_MEASUREMENTS request, 37
            bytes, and the response to it. The signature at the end covers both.

    Returns:
        32 bytes, at offset 4 of the request (DSP0274 1.1, GET_MEASUREMENTS request message format).

    Raises:
        ValueError: This is no such report.
    """
    report = base64.b64decode(evidence, validate=True)
    if len(report) <= _REQUEST_BYTES or report[1] != _GET_MEASUREMENTS:
        raise ValueError("the evidence does not begin with an SPDM GET_MEASUREMENTS request")
    return report[_NONCE]
