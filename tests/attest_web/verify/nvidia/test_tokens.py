import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.nvidia.keys import NvidiaKeys
from attest_web.verify.nvidia.tokens import ISSUER, MAX_ANSWER, MAX_TOKEN, TOLERANCE, check_verdict, issuer_of, key_ids
from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.http_client import Origin
from tests.attest_web.verify.nvidia.fake_nras import (
    KEY_ID,
    LIFETIME,
    bundle,
    certificate,
    gpu_claims,
    jwk,
    jwks,
    nras_answer,
    overall_claims,
    registered_claims,
    signed,
    signing_key,
    token,
)

KEY = signing_key()
KEYS = NvidiaKeys.parse(jwks(KEY))
NONCE = b"\5" * 32
NOW = 1_800_000_000.0
UEIDS = ["457723480349051719100670602112458195243836813799", "478176379286082186618948445787393647364802107249"]


def answered(ueids: list[str] = UEIDS, **different: Any) -> bytes:
    return nras_answer(NONCE.hex(), ueids, KEY, **{"now": NOW} | different)


def gpu_token(number: int = 0, **different: Any) -> str:
    return token(gpu_claims(UEIDS[number]) | registered_claims(NONCE.hex(), NOW) | different, KEY)


def bundled(gpus: dict[str, str], **different: Any) -> bytes:
    return bundle(overall_claims(NONCE.hex(), now=NOW) | different, gpus, KEY)


def with_overall(made: str) -> bytes:
    (_, _), gpus = json.loads(answered())
    return json.dumps([["JWT", made], gpus]).encode()


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join(parts)


def check(answer: bytes, keys: NvidiaKeys | None = KEYS, now: float = NOW, gpus: int = 2) -> frozenset[str]:
    return check_verdict(answer, NONCE, keys, now=now, gpus=gpus).ueids


def refused(answer: bytes, why: str, **different: Any) -> None:
    with pytest.raises(FailedError, match=why):
        check(answer, **different)


def test_verdict_returns_the_ueids_of_the_gpus() -> None:
    verdict = check_verdict(answered(), NONCE, KEYS, now=NOW, gpus=2)
    assert verdict.ueids == set(UEIDS)
    assert "2 GPU(s)" in str(verdict)
    assert key_ids(answered()) == {KEY_ID}


def test_verdict_with_the_digest_name_sha256_is_accepted() -> None:
    gpu = gpu_token()
    digest = hashlib.sha256(gpu.encode()).hexdigest()
    assert check(bundled({"GPU-0": gpu}, submods={"GPU-0": ["DIGEST", ["SHA256", digest]]}), gpus=1) == {UEIDS[0]}
    refused(bundled({"GPU-0": gpu}, submods={"GPU-0": ["DIGEST", ["SHA384", digest]]}), "another token", gpus=1)


def test_token_is_accepted_only_while_the_keys_certificate_is_valid() -> None:
    day, now = 86400.0, float(int(NOW))
    for begins, ends, why in (
        (now, now + day, None),
        (now - 2 * day, now, None),
        (now - 2 * day, now - TOLERANCE - 1, "with a key whose certificate is not valid at this time"),
        (now + TOLERANCE + 1, now + day, "with a key whose certificate is not valid at this time"),
    ):
        x5c = [base64.b64encode(certificate(KEY, begins, ends)).decode()]
        keys = NvidiaKeys.parse(json.dumps({"keys": [jwk(KEY) | {"x5c": x5c}]}))
        if why is None:
            assert check(answered(), keys=keys, now=now) == set(UEIDS)
        else:
            refused(answered(), why, keys=keys, now=now)


def test_real_nvidia_token_is_verified() -> None:
    # Of NVIDIA's service, 7 October 2026, with its key of that day. The token for the GPU is not at hand.
    kid = "nv-eat-kid-prod-20261007111800368-0075a17b-fe02-42d5-9e83-76e25ea623ce"
    key = {
        "kty": "EC",
        "crv": "P-384",
        "kid": kid,
        "x": "iOqzxh6Nd1K3SoSOzFbeTNWg9ckLrYsG-6YpZXqlSwfpYJTfslfdVR3J6FmMlP3a",
        "y": "EJv_TrITnOb4wgaRownYDRjkpoB4knhdsGXtKpac8nbKv5Xstpc23SuROL60DTl9",
    }
    overall = (
        "eyJraWQiOiJudi1lYXQta2lkLXByb2QtMjAyNjEwMDcxMTE4MDAzNjgtMDA3NWExN2ItZmUwMi00MmQ1LTllODMtNzZlMjVlYTYyM2NlIiwi"
        "YWxnIjoiRVMzODQifQ.eyJzdWIiOiJOVklESUEtUExBVEZPUk0tQVRURVNUQVRJT04iLCJ4LW52aWRpYS12ZXIiOiI0LjAiLCJuYmYiOjE3O"
        "TEzNzY2MTQsImlzcyI6Imh0dHBzOi8vbnJhcy5hdHRlc3RhdGlvbi5udmlkaWEuY29tIiwieC1udmlkaWEtb3ZlcmFsbC1hdHQtcmVzdWx0I"
        "jp0cnVlLCJzdWJtb2RzIjp7IkdQVS0wIjpbIkRJR0VTVCIsWyJTSEEtMjU2IiwiMzQ4NTI1OGVkNTU0YTNlNzMzZTQxMjFjYjkyZDU3MzQxN"
        "zc1NjNmNGUwOTZkNDEzNGNjNzgwYWY3Mzg4MDNmZSJdXX0sImVhdF9ub25jZSI6ImRiODMyNTJhMGIzZjE3MDdjMTdlMjEzY2FhYjNhNDI2Y"
        "mYxY2YxNTA3YjliNDZkOWU3OWI2NzNjNTcyM2M2NDgiLCJleHAiOjE3OTEzODAyMTQsImlhdCI6MTc5MTM3NjYxNCwianRpIjoiZmIxMzM5M"
        "zktMmIxNS00ZTEzLWE0ZTAtMmNhMzI1ODgzNzMyIn0.mafQ6Bp7zSp9NcPFcDMhKWWZTijx1sky4jPOjsJxL8dq6U_tfh3htwWbEsOR6nuyT"
        "NFGacqlb5_GbcqkLdAvcHwm4rwdPkyMOh446m3L_pBtNMh4nxdOtK_kVhIlSYSa"
    )
    nonce = bytes.fromhex("db83252a0b3f1707c17e213caab3a426bf1cf1507b9b46d9e79b673c5723c648")
    issued = 1_791_376_614
    answer = json.dumps([["JWT", overall], {"GPU-0": gpu_token()}]).encode()
    keys = NvidiaKeys.parse(json.dumps({"keys": [key]}))
    for about, now, why in (
        (nonce, issued, "another token for GPU-0"),  # signature, issuer, times, nonce and result hold
        (NONCE, issued, "another nonce"),
        (nonce, issued + LIFETIME + TOLERANCE, "expired"),
    ):
        with pytest.raises(FailedError, match=why):
            check_verdict(answer, about, keys, now=now, gpus=1)
    bent = answer.replace(b".mafQ", b".nafQ")
    with pytest.raises(FailedError, match="not signed by NVIDIA's key"):
        check_verdict(bent, nonce, keys, now=issued, gpus=1)


@pytest.mark.parametrize("result", [False, "true", 1, None])
def test_verdict_other_than_true_fails(result: object) -> None:
    refused(answered(result=result), "evidence is invalid")


def test_verdict_about_another_nonce_fails() -> None:
    refused(nras_answer("07" * 32, UEIDS, KEY, now=NOW), "NVIDIA's verdict is about another nonce")
    refused(bundled({"GPU-0": gpu_token(), "GPU-1": gpu_token(1, eat_nonce="07" * 32)}), "GPU-1 is about another nonce")
    refused(bundled({"GPU-0": gpu_token()}, eat_nonce=None), "another nonce", gpus=1)
    for other in (f"0x{NONCE.hex()}", f" {NONCE.hex()}", [NONCE.hex()], int(NONCE.hex(), 16), NONCE.hex() + "00"):
        refused(bundled({"GPU-0": gpu_token()}, eat_nonce=other), "another nonce", gpus=1)


def test_verdict_without_keys_is_not_made() -> None:
    with pytest.raises(NotMadeError, match="keys"):
        check(answered(), keys=None)


def test_token_of_another_key_fails() -> None:
    other = signing_key()
    refused(nras_answer(NONCE.hex(), UEIDS, other, now=NOW), "not signed by NVIDIA's key")
    refused(answered(), "names no key of NVIDIA's", keys=NvidiaKeys.parse(jwks(other, "another")))
    forged = token(gpu_claims(UEIDS[0]) | registered_claims(NONCE.hex(), NOW), other)
    refused(bundled({"GPU-0": forged, "GPU-1": gpu_token(1)}), "token for GPU-0 is not signed")


def test_token_without_key_id_fails() -> None:
    claims = unsigned({"alg": "ES384"}, overall_claims(NONCE.hex(), now=NOW))
    refused(with_overall(f"{claims}.{'A' * 128}"), "names no key")


@pytest.mark.parametrize("algorithm", ["none", "None", "ES256", "RS256", "", None, 384])
def test_token_with_another_algorithm_fails(algorithm: object) -> None:
    claims = unsigned({"alg": algorithm, "kid": KEY_ID}, overall_claims(NONCE.hex(), now=NOW))
    refused(with_overall(f"{claims}.{'A' * 128}"), "not signed by NVIDIA's key")


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_token_with_the_public_key_as_hmac_secret_fails(encoding: Encoding) -> None:
    claims = unsigned({"alg": "HS256", "kid": KEY_ID}, overall_claims(NONCE.hex(), now=NOW))
    secret = KEY.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    tag = hmac.digest(secret, claims.encode(), "sha256")
    forged = f"{claims}.{base64.urlsafe_b64encode(tag).rstrip(b'=').decode()}"
    refused(with_overall(forged), "not signed by NVIDIA's key")


def test_token_that_was_changed_after_signing_fails() -> None:
    head, _, signature = token(overall_claims(NONCE.hex(), result=False, now=NOW), KEY).split(".")
    _, claims, _ = json.loads(answered())[0][1].split(".")
    refused(with_overall(f"{head}.{claims}.{signature}"), "not signed by NVIDIA's key")


def test_token_with_a_duplicate_claim_fails() -> None:
    twice = json.dumps(overall_claims(NONCE.hex(), now=NOW))[:-1] + ', "eat_nonce": "07"}'
    made = json.loads(answered())
    made[0][1] = signed(twice.encode(), KEY)
    refused(json.dumps(made).encode(), "more than one 'eat_nonce'")


@pytest.mark.parametrize(
    ("different", "why"),
    [
        ({"exp": int(NOW) - TOLERANCE}, "expired"),
        ({"exp": None}, "no 'exp'"),
        ({"exp": str(int(NOW) + 9)}, "not an integer"),
        ({"exp": float("nan")}, "no number"),
        ({"nbf": int(NOW) + TOLERANCE + 1}, "not valid yet"),
        ({"iat": int(NOW) + TOLERANCE + 1}, "not valid yet"),
        ({"iss": "https://nras.attestation.nvidia.com.example"}, "not issued by"),
        ({"iss": None}, "not issued by"),
    ],
)
def test_token_of_another_time_or_issuer_fails(different: dict[str, Any], why: str) -> None:
    gpus = {"GPU-0": gpu_token()}
    refused(bundled(gpus, **different), why, gpus=1)
    refused(bundled({"GPU-0": gpu_token(0, **different)}), why, gpus=1)


def test_token_times_are_checked_with_the_clock_tolerance() -> None:
    assert check(answered(), now=NOW + LIFETIME + TOLERANCE - 1)
    assert check(answered(), now=NOW - TOLERANCE)
    refused(answered(), "expired", now=NOW + LIFETIME + TOLERANCE)
    refused(answered(), "not valid yet", now=NOW - TOLERANCE - 1)


def test_the_issuer_is_the_queried_service() -> None:
    staging = "https://nras.example"
    made = answered(issuer=staging)
    refused(made, f"not issued by {ISSUER}")
    assert check_verdict(made, NONCE, KEYS, now=NOW, gpus=2, issuer=staging).ueids == set(UEIDS)
    for url, issuer in (
        ("https://nras.attestation.nvidia.com/v3/attest/gpu", ISSUER),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("https://[::1]:8443/v3", "https://[::1]:8443"),
    ):
        assert issuer_of(Origin.parse(url)) == issuer


def test_gpu_tokens_that_do_not_match_the_verdict_fail() -> None:
    both = {"GPU-0": gpu_token(0), "GPU-1": gpu_token(1)}
    overall, gpus = json.loads(bundled(both))
    for changed, why in (
        ({"GPU-0": gpus["GPU-1"], "GPU-1": gpus["GPU-0"]}, "another token for GPU-0"),
        ({"GPU-0": gpus["GPU-0"]}, "other GPUs"),
        (gpus | {"GPU-2": gpu_token(0)}, "other GPUs"),
    ):
        refused(json.dumps([overall, changed]).encode(), why, gpus=len(changed))
    refused(bundled(both, submods=None), "submods")
    refused(bundled(both, submods={"GPU-0": None, "GPU-1": []}), "another token")


@pytest.mark.parametrize("name", ["GPU-0", "GPU-1"])
def test_gpu_token_of_another_verdict_about_the_same_gpu_fails(name: str) -> None:
    overall, gpus = json.loads(answered())
    other = gpu_token(int(name[-1]), exp=int(NOW) + 2 * LIFETIME)
    refused(json.dumps([overall, gpus | {name: other}]).encode(), f"another token for {name}")


@pytest.mark.parametrize("gpus", [0, 1, 3])
def test_verdict_about_another_number_of_gpus_fails(gpus: int) -> None:
    refused(answered(), f"2 GPUs, not the {gpus}", gpus=gpus)


def test_verdict_about_one_gpu_twice_fails() -> None:
    refused(answered([UEIDS[0], UEIDS[0]]), "another token is about")


def test_verdict_with_a_failed_gpu_claim_fails() -> None:
    refused(bundled({"GPU-0": gpu_token(), "GPU-1": gpu_token(1, dbgstat="enabled")}), "token for GPU-1 .*debugging")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'[["JWT"]]',
        b'[["JWT","a"]]',
        b'[["JWT","e30.e30.AA"]]',
        b'[["JWT","e30.e30.AA"],[]]',
        b'[["JWT","e30.e30.AA"],{},{}]',
        b'[["jwt","e30.e30.AA"],{}]',
        b'[["JWT",1],{}]',
        b'[["JWT","e30.e30."],{}]',
        b'[["JWT","e30.!.AA"],{}]',
        b'[["JWT","e30.e30.AA"],{"GPU-0":"a"}]',
        b'[["JWT","e30.e30.AA"],{"GPU-0":{}}]',
        b'[["JWT","e30.e30.AA"],{"GPU-00":"e30.e30.AA"}]',
        b'[["JWT","e30.e30.AA"],{"SWITCH-0":"e30.e30.AA"}]',
        b'[["JWT","e30.e30.AA"],{"GPU-0":"e30.e30.AA","GPU-0":"e30.e30.AA"}]',
        json.dumps([["JWT", "e30.e30.AA"], {f"GPU-{n}": "e30.e30.AA" for n in range(65)}]).encode(),
        b'[["JWT","e30.e30.%s"],{}]' % (b"A" * MAX_TOKEN),
        b" " * MAX_ANSWER + b'[["JWT","e30.e30.AA"],{}]',
    ],
)
def test_malformed_verdict_is_not_made(answer: bytes) -> None:
    with pytest.raises(NotMadeError, match="no verdict came"):
        check(answer)
    assert key_ids(answer) == set()


@given(st.binary() | st.lists(st.text("AZaz09-_", min_size=1), min_size=6, max_size=6))
@settings(max_examples=200, deadline=None)
def test_verdict_of_any_bytes_raises_no_unexpected_error(made: bytes | list[str]) -> None:
    answer = made
    if isinstance(answer, list):
        answer = json.dumps([["JWT", ".".join(answer[:3])], {"GPU-0": ".".join(answer[3:])}]).encode()
    key_ids(answer)
    with pytest.raises((FailedError, NotMadeError)):
        check(answer)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "b64", "crit", "typ"]),
        st.recursive(st.none() | st.booleans() | st.sampled_from(["ES384", KEY_ID, "b64", "none"]), st.lists),
    )
)
@settings(max_examples=200, deadline=None)
def test_token_with_any_header_raises_no_unexpected_error(header: dict[str, Any]) -> None:
    made = with_overall(unsigned(header, overall_claims(NONCE.hex(), now=NOW)) + "." + "A" * 128)
    key_ids(made)
    refused(made, "names no key|not signed")


def test_jwk_of_another_curve_is_not_used() -> None:
    with pytest.raises(FailedError, match="no key for ES384"):
        NvidiaKeys.parse(jwks(signing_key(SECP256R1())))


def test_fake_nras_response_is_valid_now() -> None:
    assert check(nras_answer(NONCE.hex(), UEIDS, KEY), now=time.time()) == set(UEIDS)
