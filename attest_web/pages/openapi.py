"""`/openapi.json`: the pages' description in OpenAPI 3.1."""

from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

_HEX = "^[0-9a-f]*$"
_REF = "#/components/schemas/"


def blueprint(release: str, *, attestation_public: bool) -> Blueprint:
    """The page with the description. It needs no token.

    Args:
        release: Installed release of this proxy.
        attestation_public: Whether reports need no token.
    """
    pages = Blueprint("openapi", __name__)
    described = description(release, attestation_public=attestation_public)

    @pages.get("/openapi.json")
    def openapi() -> ResponseReturnValue:
        return described

    return pages


def description(release: str, *, attestation_public: bool) -> dict[str, Any]:
    """The description of all proof pages.

    Args:
        release: Installed release of this proxy.
        attestation_public: Whether reports need no token.
    """
    bearer: list[dict[str, list[str]]] = [{"bearer": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tee-signer proof pages",
            "version": release,
            "description": "Signatures of exchanges with a model, and attestation of the keys that made them. "
            "All other paths are the model server's.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            "/": _page("That it is there; to browsers, a page for people", _status_or_page(), {}),
            "/version": _page("Release and revision of this proxy", _ok("Version"), {}),
            "/health": _page("That it lives", _ok("Health"), {}),
            "/ready": _page("Whether it can work", _ok("Readiness"), {"503": _answer("It cannot", "Readiness")}),
            "/metrics": _page("What Prometheus scrapes", _text("Metrics in Prometheus' text format"), _errors(429)),
            "/openapi.json": _page("This description", _ok("Description"), _errors(429)),
            "/v1/signature/{id}": _page(
                "The signature of an exchange, by one algorithm",
                _ok("Signature"),
                _errors(400, 401, 404, 429, 503),
                security=bearer,
                parameters=[
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "description": "The id of the response, or the receipt id from its header `x-receipt-id`.",
                        "schema": {"type": "string", "minLength": 1},
                    },
                    _parameter("signing_algo", "Which signature.", {"$ref": _REF + "SigningAlgo", "default": "ecdsa"}),
                ],
            ),
            "/v1/attestation/report": _page(
                "Evidence that a signing key is this TD's",
                _ok("Report"),
                _errors(400, *([] if attestation_public else [401]), 404, 429, 503),
                security=[] if attestation_public else bearer,
                parameters=[
                    _parameter(
                        "signing_algo",
                        "About which key; by default the one that signing_address names, or ecdsa.",
                        {"$ref": _REF + "SigningAlgo"},
                    ),
                    _parameter("signing_address", "The address that the key must have.", {"type": "string"}),
                    _parameter(
                        "nonce",
                        "32 bytes in hex, for fresh evidence; without it, a report may be some minutes old.",
                        {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
                    ),
                    _parameter(
                        "include_tls_fingerprint",
                        "Whether to bind the TLS key, too.",
                        {"type": "string", "enum": ["true", "false", "1", "0"], "default": "false"},
                    ),
                ],
            ),
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _page(
    summary: str,
    ok: dict[str, Any],
    others: dict[str, Any],
    security: list[dict[str, list[str]]] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    page: dict[str, Any] = {"summary": summary, "security": security or []}
    if parameters:
        page["parameters"] = parameters
    return {"get": {**page, "responses": {"200": ok, **others}}}


def _parameter(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _answer(text: str, schema: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": _REF + schema}}}}


def _text(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _ok(schema: str) -> dict[str, Any]:
    return _answer("Found", schema)


def _status_or_page() -> dict[str, Any]:
    ok = _ok("Status")
    return {**ok, "content": {**ok["content"], "text/html": {"schema": {"type": "string"}}}}


def _errors(*statuses: int) -> dict[str, Any]:
    texts = {
        400: "A parameter is wrong",
        401: "A valid token is needed",
        404: "Not known here",
        429: "Too many requests",
        503: "It cannot be had now",
    }
    headers = {
        401: {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}},
        429: {
            "Retry-After": {"required": True, "description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
        },
        503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
    }
    answers = {}
    for status in statuses:
        answers[str(status)] = _answer(texts[status], "Error")
        if status in headers:
            answers[str(status)]["headers"] = headers[status]
    return answers


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _schemas() -> dict[str, Any]:
    string, hexadecimal = {"type": "string"}, {"type": "string", "pattern": _HEX}
    algo = {"$ref": _REF + "SigningAlgo"}
    attestation = {
        "model_name": string,
        "signing_address": string,
        "signing_algo": algo,
        "signing_public_key": {"type": "string", "pattern": "^([0-9a-f]{128}|[0-9a-f]{64})$"},
        "request_nonce": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "intel_quote": {**hexadecimal, "description": "The TDX quote."},
        "nvidia_payload": {**string, "description": "JSON, as NVIDIA's attestation service takes it."},
        "event_log": {"type": "array", "items": {"type": "object"}},
        "info": {"type": "object", "description": "What dstack says of this TD, some minutes ago perhaps."},
        "app_id": {"type": "string", "pattern": "^[0-9a-f]{40}$", "description": "The app's id on dstack."},
        "vm_config": {**string, "description": "JSON, as dstack gives it: how the host says that it made this TD."},
        "signature_chain": {
            "type": "array",
            "items": hexadecimal,
            "minItems": 2,
            "maxItems": 2,
            "description": "The app key's signature over this key, and the KMS root's over the app key: each r s v.",
        },
        "gpu_info": {**string, "description": "JSON, as dstack gives it: the evidence on the GPUs at boot."},
        "tls_cert_fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "dev": {"const": True, "description": "The keys are random, and this report proves nothing."},
    }
    optional = ("app_id", "vm_config", "signature_chain", "gpu_info", "tls_cert_fingerprint", "dev")
    in_a_list = {
        "type": "array",
        "items": {"$ref": _REF + "Attestation"},
        "minItems": 1,
        "maxItems": 1,
        "description": "The report once more, without these lists, where some verifiers look for it.",
    }
    error_types = [
        "bad_request",
        "e2ee_unsupported",
        "unauthorized",
        "not_found",
        "payload_too_large",
        "rate_limited",
        "server_error",
    ]
    error = {
        "message": string,
        "type": {"enum": error_types},
        "param": {"type": "null"},
        "code": {"enum": [None, "not_signed"]},
    }
    return {
        "Status": _object({"status": {"const": "ok"}, "service": string, "version": string}),
        "Version": _object({"version": string, "git_revision": {"type": ["string", "null"]}}),
        "Health": _object({"status": {"const": "ok"}}),
        "Readiness": _object(
            {
                "status": {"enum": ["ready", "not ready", "draining"]},
                "keys": {"type": "boolean"},
                "upstream": {"type": "boolean"},
                "signature_store": {"enum": ["ok", "kept here alone"]},
            }
        ),
        "Description": {"type": "object", "required": ["openapi", "info", "paths"]},
        "SigningAlgo": {"type": "string", "enum": ["ecdsa", "ed25519"]},
        "Signature": _object(
            {
                "text": {
                    **string,
                    "description": "SHA-256 of the request body, a colon, SHA-256 of the response body.",
                },
                "signature": {**string, "description": "In hex: ecdsa 0x r s v, ed25519 without 0x."},
                "signing_address": string,
                "signing_algo": algo,
            }
        ),
        "Attestation": _object(attestation, *optional),
        "Report": _object({**attestation, "all_attestations": in_a_list, "model_attestations": in_a_list}, *optional),
        "Error": _object({"error": _object(error)}),
    }
