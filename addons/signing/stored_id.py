"""The response id under which a signature is stored, in addition to its receipt id."""

from urllib.parse import unquote

from mitmproxy import http

from addons.routing.routes import request_path
from attest_web.stores.signature_store import RECEIPT_PREFIX


def stored_id(request: http.Request, response_id: str | None) -> str | None:
    """The response id, if this request has created the response with that id.

    The response to a `GET` of a stored object, or to a request about one (`POST /v1/responses/{id}/cancel`), has the id
    of an earlier exchange, whose signature keeps it. An upstream's id that looks like a receipt id is never used.

    Args:
        request: The request.
        response_id: The id in the response body; None if it has none.

    Returns:
        The id under which to store the signature; None if only the receipt id is to be used.
    """
    if response_id is None or request.data.method != b"POST" or response_id.startswith(RECEIPT_PREFIX):
        return None
    below_collection = unquote(request_path(request)).split("/", 3)[3:]
    return None if f"/{response_id}/" in f"/{''.join(below_collection)}/" else response_id
