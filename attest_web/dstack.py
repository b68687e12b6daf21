"""dstack's guest agent: the keys of this app, quotes of this TD, and what is known of both.

All through `dstack-sdk`, which talks HTTP over a Unix socket. Every call opens a connection of its own: an agent that
was restarted is then simply there again. Calls block, so none belongs on the event loop.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from dstack_sdk import DstackClient

from attest_web.keys import SigningKeys

KEY_PURPOSE = "signing"


class DstackError(Exception):
    """The guest agent cannot be reached, or does not answer as it should. The message says what to look at."""


@dataclass(frozen=True)
class Quote:
    """An Intel TDX quote.

    Attributes:
        quote: The quote in hex.
        event_log: What was measured into the RTMRs, in order.
    """

    quote: str
    event_log: list[dict[str, Any]]


class Dstack:
    """The guest agent of the confidential VM that this process runs in."""

    def __init__(self, endpoint: str | None = None, timeout: float = 30) -> None:
        """Take note of where the agent is; do not ask it anything yet.

        Args:
            endpoint: Path of its socket; by default, where `dstack-sdk` looks for it.
            timeout: Seconds that it may take for each step of an answer.
        """
        self._endpoint = endpoint
        self._timeout = timeout

    def signing_keys(self, model_name: str) -> SigningKeys:
        """This app's signing keys, from dstack's KMS.

        Raises:
            DstackError: They cannot be had, or are no keys. The message does not quote them.
        """

        def ask(client: DstackClient) -> list[bytes]:
            paths = (f"{model_name}/ecdsa-signing-key", f"{model_name}/ed25519-signing-key")
            return [client.get_key(path, KEY_PURPOSE).decode_key() for path in paths]

        ecdsa_secret, ed25519_seed = self._ask("signing keys", ask)
        try:
            return SigningKeys.from_secrets(ecdsa_secret, ed25519_seed)
        except ValueError as error:
            raise DstackError(f"dstack's KMS gave no usable signing keys: {error}") from None

    def quote(self, report_data: bytes) -> Quote:
        """A fresh quote.

        Args:
            report_data: 64 bytes to be quoted.

        Raises:
            DstackError: It cannot be had.
        """

        def ask(client: DstackClient) -> Quote:
            answer = client.get_quote(report_data)
            event_log = json.loads(answer.event_log)
            if not isinstance(event_log, list):
                raise TypeError
            bytes.fromhex(answer.quote)  # or it is none
            return Quote(answer.quote, event_log)

        return self._ask("a quote", ask)

    def info(self) -> dict[str, Any]:
        """What dstack tells of this app, `tcb_info` included.

        Raises:
            DstackError: It cannot be had.
        """

        def ask(client: DstackClient) -> dict[str, Any]:
            info: dict[str, Any] = client.info().model_dump()
            return info

        return self._ask("information on this app", ask)

    def _ask[T](self, what: str, ask: Callable[[DstackClient], T]) -> T:
        # The SDK raises what its parts raise; none of their messages is worth the risk of its quoting a key.
        try:
            client = DstackClient(self._endpoint, timeout=self._timeout)
            with client:  # `as` would give the SDK's asynchronous client
                return ask(client)
        except FileNotFoundError:
            reason = "its socket is not there (/var/run/dstack.sock, to be mounted)"
        except httpx.TimeoutException:
            reason = f"it did not answer within {self._timeout:g} seconds"
        except httpx.HTTPStatusError as error:
            reason = f"it answered with HTTP status {error.response.status_code}"
        except httpx.HTTPError as error:
            reason = f"it cannot be talked to ({type(error).__name__})"
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            reason = f"its answer could not be read ({type(error).__name__})"
        raise DstackError(f"dstack's guest agent gave no answer on {what}: {reason}") from None
