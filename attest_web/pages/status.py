"""`/version`, `/health` and `/ready`: version, liveness and readiness."""

from collections.abc import Callable

from flask import Blueprint
from flask.typing import ResponseReturnValue

from attest_web.stores.signature_store import SignatureStore


def blueprint(
    upstream_answers: Callable[[], bool],
    draining: Callable[[], bool],
    store: SignatureStore,
    release: str,
    git_revision: str | None,
) -> Blueprint:
    """The status pages. None of them needs a token.

    Args:
        upstream_answers: Whether the upstream answers.
        draining: Whether the proxy is draining.
        store: Where the signatures are.
        release: Installed release of this proxy.
        git_revision: Revision of its source, if known.
    """
    pages = Blueprint("status_pages", __name__)

    @pages.get("/version")
    def version() -> ResponseReturnValue:
        return {"version": release, "git_revision": git_revision}

    @pages.get("/health")
    def health() -> ResponseReturnValue:
        return {"status": "ok"}

    @pages.get("/ready")
    def ready() -> ResponseReturnValue:
        # The pages are served only once the keys are there, so only the upstream is left to check.
        upstream = upstream_answers()
        status = "draining" if draining() else "ready" if upstream else "not ready"
        # Without its shared store, a proxy still signs and finds its own signatures. Not to be ready would take
        # all proxies that share the store out of service at once.
        signatures = "kept here alone" if store.degraded else "ok"
        body = {"status": status, "keys": True, "upstream": upstream, "signature_store": signatures}
        return body, 200 if status == "ready" else 503

    return pages
