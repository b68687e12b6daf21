"""Under which response id a signature is stored, beside its receipt id."""

from urllib.parse import unquote

from mitmproxy import http

from addons.routing.routes import request_path
from attest_web.stores.signature_store import RECEIPT_PREFIX


def stored_id(request: http.Request, response_id: str | None) -> str | None:
    """The response id, where the request has made the response that it names.

    The response to a `GET` of a stored object, or to a request about one (`POST /v1/responses/{id}/cancel`), has the id
    of an earlier exchange, whose signature stays under it. A receipt id is never taken from an upstream.

    Args:
        request: The request.
        response_id: The id that the response body tells; None where it tells none.

    Returns:
        The id to store the signature under; None where that is the receipt id alone.
    """
    if response_id is None or request.data.method != b"POST" or response_id.startswith(RECEIPT_PREFIX):
        return None
    below_collection = unquote(request_path(request)).split("/", 3)[3:]
    return None if f"/{response_id}/" in f"/{''.join(below_collection)}/" else response_id
