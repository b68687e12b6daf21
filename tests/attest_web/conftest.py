"""The application over a store and evidence that do as they are told."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from attest_web.attestation.report_cache import ReportCache
from attest_web.attestation.reports import Attestation
from attest_web.dstack.guest_agent import Quote
from attest_web.dstack.key_chain import KeyChains
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.middleware.auth import Tokens
from attest_web.pages.app import AppDependencies, create_app
from attest_web.signatures import SignedExchange, sign_text
from attest_web.stores.signature_store import MemorySignatureStore, SignatureStore

AUTHORIZED = {"Authorization": "Bearer s3cret"}


class Evidence:
    """A dstack and a GPU that do as they are told."""

    error: Exception | None = None

    def quote(self, report_data: bytes) -> Quote:
        if self.error is not None:
            raise self.error
        return Quote(report_data.hex(), [], "{}")

    def info(self) -> dict[str, Any]:
        return {"app_id": "a1" * 20}

    def gpu(self, nonce: str) -> str:
        return json.dumps({"nonce": nonce})

    def gpu_at_boot(self) -> str:
        return "{}\n"

    def tls(self) -> bytes:
        return b"f" * 32


@pytest.fixture
def evidence() -> Evidence:
    return Evidence()


@pytest.fixture
def signed(keys: SigningKeys, vectors: dict[str, str]) -> SignedExchange:
    return sign_text(keys, vectors["text"])


@pytest.fixture
def make_client(keys: SigningKeys, signed: SignedExchange, evidence: "Evidence") -> Callable[..., FlaskClient]:
    def make(
        store: SignatureStore | None = None,
        *,
        upstream_answers: bool = True,
        draining: bool = False,
        public: bool = False,
    ) -> FlaskClient:
        if store is None:
            store = MemorySignatureStore("model", 60)
            store.put("chatcmpl-123", signed)
            store.put("chatcmpl-with/slash and ü", signed)
            store.put("/with//slashes/", signed)
        tokens = Tokens(["other", "s3cret"])
        metrics = Metrics()
        attestation = Attestation(
            keys,
            "org/m",
            evidence,
            evidence.gpu,
            dev=True,
            metrics=metrics,
            chains=KeyChains(ecdsa=("00" * 65, "11" * 65)),
            gpu_info=evidence.gpu_at_boot,
        )
        sources = AppDependencies(
            tokens=tokens,
            store=store,
            upstream_answers=lambda: upstream_answers,
            draining=lambda: draining,
            attestation=attestation,
            report_cache=ReportCache(attestation.report, 300, metrics),
            tls_fingerprint=evidence.tls,
            attestation_public=public,
            trust_proxy=True,
            metrics=metrics,
            machine=(),
            model_name="org/m",
            release="1.2.3",
            git_revision="abc123",
        )
        return create_app(sources).test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()
