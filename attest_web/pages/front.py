"""`/`: JSON for programs; for browsers, a page that shows this proxy's identity and checks it.

The page's scripts and styles are below `/proof-page/`; it loads nothing from elsewhere, and its data from the other
pages.
"""

import hashlib
from pathlib import Path

import jinja2
from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue

from attest_web.attestation.reports import Attestation
from attest_web.page_paths import FILES_PREFIX

_FILES = Path(__file__).with_name("static")
_PAGE = "page.html"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",  # the icon, which browsers fetch without a link
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""The page's content security policy (CSP Level 3): its own files, and requests to this server."""

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Cached, and revalidated each time: the files change together, with the release, and a 304 is cheap.
    "Cache-Control": "no-cache",
}


def blueprint(
    attestation: Attestation,
    release: str,
    git_revision: str | None,
    *,
    attestation_public: bool,
    source_url: str | None = None,
) -> Blueprint:
    """The front page and its files. They need no token.

    Args:
        attestation: Has the model's name and the keys.
        release: Installed release of this proxy.
        git_revision: Revision of its source, if known.
        attestation_public: Whether reports need no token.
        source_url: Where the source of this release is, if it is configured.
    """
    pages = Blueprint("front_page", __name__)
    page = _render(
        model=attestation.model_name,
        release=release,
        git_revision=git_revision,
        ecdsa_address=attestation.address("ecdsa"),
        ed25519_address=attestation.address("ed25519"),
        dev=attestation.dev,
        attestation_public=attestation_public,
        source_url=source_url,
    )
    files = {file.name: file.read_bytes() for file in _FILES.iterdir() if file.suffix in _TYPES}

    @pages.get("/")
    def index() -> ResponseReturnValue:
        accepted = request.accept_mimetypes
        # Browsers prefer HTML; a client without a preference is a program and gets JSON.
        if accepted["text/html"] > accepted["application/json"]:
            response = _file(page, "text/html; charset=utf-8")
            response.headers["Vary"] = "Accept"
            return response
        return {"status": "ok", "service": "tee-signer", "version": release}, {"Vary": "Accept"}

    @pages.get(f"{FILES_PREFIX}<name>")
    def file(name: str) -> ResponseReturnValue:
        if name not in files:
            abort(404)
        return _file(files[name], _TYPES[Path(name).suffix])

    return pages


def _render(**values: str | bool | None) -> bytes:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string((_FILES / _PAGE).read_text("utf-8")).render(values).encode()


def _file(content: bytes, content_type: str) -> Response:
    response = Response(content, content_type=content_type, headers=_HEADERS)
    response.set_etag(hashlib.sha256(content).hexdigest()[:32])
    response.make_conditional(request)
    return response
