"""`/v1/signature/{id}`: the signature of an exchange, by one algorithm."""

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue

from attest_web.errors import error_body, error_headers
from attest_web.metrics import Metrics
from attest_web.middleware.auth import Tokens
from attest_web.middleware.bearer import require_token
from attest_web.signatures import SIGNING_ALGOS, signature_answer
from attest_web.stores.signature_store import NotSignedError, SignatureStore, StoreUnavailableError


def blueprint(tokens: Tokens, store: SignatureStore, metrics: Metrics) -> Blueprint:
    """The signature page.

    Args:
        tokens: The bearer tokens that open signatures.
        store: Where the signatures are.
        metrics: Count lookups.
    """
    pages = Blueprint("signature_page", __name__)

    # A client may choose its request id, and with it what the response id contains: slashes too.
    @pages.get("/v1/signature/<anything:chat_id>")
    def signature(chat_id: str) -> ResponseReturnValue:
        require_token(tokens)
        algo = request.args.get("signing_algo", "ecdsa")
        if algo not in SIGNING_ALGOS:
            abort(400, "signing_algo must be ecdsa or ed25519.")
        try:
            signed = store.get(chat_id)
        except StoreUnavailableError:
            metrics.lookups.labels("unavailable").inc()
            return _unavailable()
        except NotSignedError as error:
            metrics.lookups.labels("not_signed").inc()
            return _not_signed(error.reason)
        metrics.lookups.labels("miss" if signed is None else "hit").inc()
        if signed is None:
            abort(404, "No signature under this id: it is not known here, or its time is over.")
        return signature_answer(signed, algo)

    return pages


def _unavailable() -> Response:
    message = "This id is not known here, and the signature store cannot be asked. Try again in a second."
    return Response(error_body(503, message), 503, {"retry-after": "1", **error_headers(503)})


def _not_signed(reason: str) -> Response:
    message = f"This exchange is not signed: {reason}."
    return Response(error_body(404, message, code="not_signed"), 404, error_headers(404))
