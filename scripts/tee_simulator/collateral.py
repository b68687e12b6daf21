"""What a verifier fetches beside a quote: TCB info, QE identity and revocation lists, signed under the simulated root.

Shapes: Intel's provisioning certification service, API version 4, as `dcap-qvl` keeps them in its `QuoteCollateralV3`.
"""

import datetime
import hashlib
import json
from typing import Any

from scripts.tee_simulator.pki import CPU_SVN, FMSPC, PCE_ID, PCE_SVN, SimulatedPki

TEE_TCB_SVN = bytes.fromhex("06010300000000000000000000000000")
"""SVNs of the TDX module: byte 0 is its ISV SVN, byte 1 its version, which picks its identity in the TCB info."""

QE_MISCSELECT = bytes(4)
QE_ATTRIBUTES = bytes.fromhex("11000000000000000000000000000000")
QE_MRSIGNER = hashlib.sha256(b"simulated TD quoting enclave: signer").digest()
QE_ISV_PROD_ID = 2
QE_ISV_SVN = 4

_TCB_DATE = "2024-11-13T00:00:00Z"
_EVALUATION_NUMBER = 17


def collateral(pki: SimulatedPki) -> dict[str, str]:
    """The collateral for a platform's quotes.

    Returns:
        An object whose JSON `dcap_qvl.QuoteCollateralV3.from_json` takes: chains in PEM, revocation lists and
        signatures in hex, TCB info and QE identity as the very strings that are signed.
    """
    issuer_chain = pki.tcb_signing.pem + pki.root.pem
    tcb_info = _dumped(_tcb_info(pki.issued, pki.next_update))
    qe_identity = _dumped(_qe_identity(pki.issued, pki.next_update))
    return {
        "pck_crl_issuer_chain": pki.platform_ca.pem + pki.root.pem,
        "root_ca_crl": pki.root_crl.hex(),
        "pck_crl": pki.pck_crl.hex(),
        "tcb_info_issuer_chain": issuer_chain,
        "tcb_info": tcb_info,
        "tcb_info_signature": pki.tcb_signing.sign(tcb_info.encode()).hex(),
        "qe_identity_issuer_chain": issuer_chain,
        "qe_identity": qe_identity,
        "qe_identity_signature": pki.tcb_signing.sign(qe_identity.encode()).hex(),
    }


def _tcb_info(issued: datetime.datetime, next_update: datetime.datetime) -> dict[str, Any]:
    module = {"mrsigner": bytes(48).hex(), "attributes": bytes(8).hex(), "attributesMask": "FF" * 8}
    module_level = _level({"isvsvn": TEE_TCB_SVN[0]})
    tdx_svns = [{"svn": svn} for svn in TEE_TCB_SVN]
    # The module's version is checked by the module's identity, so Intel has 0 in its component.
    tdx_svns[1] = {"svn": 0}
    components = {
        "sgxtcbcomponents": [{"svn": svn} for svn in CPU_SVN],
        "pcesvn": PCE_SVN,
        "tdxtcbcomponents": tdx_svns,
    }
    return {
        "id": "TDX",
        "version": 3,
        **_dates(issued, next_update),
        "fmspc": FMSPC.hex().upper(),
        "pceId": PCE_ID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": _EVALUATION_NUMBER,
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": f"TDX_{TEE_TCB_SVN[1]:02X}", **module, "tcbLevels": [module_level]}],
        "tcbLevels": [_level(components)],
    }


def _qe_identity(issued: datetime.datetime, next_update: datetime.datetime) -> dict[str, Any]:
    return {
        "id": "TD_QE",
        "version": 2,
        **_dates(issued, next_update),
        "tcbEvaluationDataNumber": _EVALUATION_NUMBER,
        "miscselect": QE_MISCSELECT.hex().upper(),
        "miscselectMask": "FF" * 4,
        "attributes": QE_ATTRIBUTES.hex().upper(),
        "attributesMask": "FBFFFFFFFFFFFFFF" + "00" * 8,
        "mrsigner": QE_MRSIGNER.hex().upper(),
        "isvprodid": QE_ISV_PROD_ID,
        "tcbLevels": [_level({"isvsvn": QE_ISV_SVN})],
    }


def _level(tcb: dict[str, Any]) -> dict[str, Any]:
    return {"tcb": tcb, "tcbDate": _TCB_DATE, "tcbStatus": "UpToDate"}


def _dates(issued: datetime.datetime, next_update: datetime.datetime) -> dict[str, str]:
    return {"issueDate": f"{issued:%Y-%m-%dT%H:%M:%SZ}", "nextUpdate": f"{next_update:%Y-%m-%dT%H:%M:%SZ}"}


def _dumped(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
