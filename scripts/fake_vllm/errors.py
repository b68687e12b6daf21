"""Errors of the fake server, in the formats that vLLM has used over time."""

from typing import Any

JsonObject = dict[str, Any]


class BadRequestError(Exception):
    """A request that vLLM would reject, with its status and error type."""

    def __init__(self, message: str, status: int = 400, error_type: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type


def refusal(error: BadRequestError, path: str) -> JsonObject:
    """The body of an error, in vLLM's format on this path."""
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": error.error_type, "message": str(error)}}
    message = {"message": str(error), "type": error.error_type, "param": None, "code": error.status}
    return {"error": message}


def error_on_demand(shape: str, request: JsonObject) -> tuple[int, JsonObject]:
    """An error that quotes the request, like pydantic's messages.

    Args:
        shape: `flat` (vLLM until 0.9), `nested` (since), or `detail` (FastAPI's own).
        request: What to quote.

    Returns:
        Status and body.

    Raises:
        BadRequestError: The shape is unknown.
    """
    found = {"type": "missing", "loc": ("body", "model"), "msg": "Field required", "input": request}
    if shape == "flat":
        error = {"object": "error", "message": str([found]), "type": "BadRequestError", "param": None, "code": 400}
        return 400, error
    if shape == "nested":
        message = (
            "1 validation error for ChatCompletionRequest\n  Value error, model is required "
            f"[type=value_error, input_value={request!r}, input_type=dict]\n"
            "    For further information visit https://errors.pydantic.dev/2.11/v/value_error"
        )
        return 400, {"error": {"message": message, "type": "Bad Request", "param": None, "code": 400}}
    if shape == "detail":
        return 422, {"detail": [found]}
    raise BadRequestError(f"X-Stand-In-Error: {shape} is none of flat, nested, detail")
