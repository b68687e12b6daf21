"""dstack's guest agent: the keys of this app, quotes of this TD, and what is known of both.

It speaks HTTP over a Unix socket. `dstack-sdk` finds the socket and asks; what the SDK has no method for, or would not
hand on whole, is asked over its transport. Every call opens a connection of its own: an agent that was restarted is
then simply there again. Calls block, so none belongs on the event loop.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
from dstack_sdk import DstackClient
from dstack_sdk.dstack_client import get_endpoint

from attest_web.dstack.agent_transport import AnswerTooLargeError, BoundedTransport
from attest_web.dstack.cached_call import CachedCall
from attest_web.dstack.endpoint import shown_endpoint
from attest_web.dstack.key_chain import KeyChains, checked_chains
from attest_web.dstack.shown_json import checked_json
from attest_web.dstack.tls_key import TlsKey
from attest_web.host_names import common_name
from attest_web.keys import SigningKeys

logger = logging.getLogger(__name__)

KEY_PURPOSE = "signing"

INFO_LIFETIME: Final = 300.0
"""Seconds for which what the agent tells of this app is taken to hold. Each `Info` costs the agent a quote, and a
running app can add to what is measured only on OS versions before 0.6, by events of its own (EmitEvent)."""

_UNKNOWN_METHOD: Final = (400, 404)
"""How an agent answers to a method that it does not know: 400 the guest agent, 404 what stands in front of it."""


class DstackError(Exception):
    """The guest agent cannot be reached, or does not answer as it should.

    The message is for the operator: it says what to look at, and names the agent's socket.
    """


@dataclass(frozen=True)
class Quote:
    """An Intel TDX quote.

    Attributes:
        quote: The quote in hex.
        event_log: What was measured into the RTMRs, in order.
        vm_config: How the host says that it has made this machine: JSON, as it came; empty where it is not told.
    """

    quote: str
    event_log: list[dict[str, Any]]
    vm_config: str = ""


@dataclass(frozen=True)
class AppKeys:
    """This app's signing keys, and how they were vouched for.

    Attributes:
        keys: The keys.
        chains: What leads from them to the app's key.
    """

    keys: SigningKeys
    chains: KeyChains


class Dstack:
    """The guest agent of the confidential VM that this process runs in."""

    def __init__(self, endpoint: str | None = None, timeout: float = 30, info_lifetime: float = INFO_LIFETIME) -> None:
        """Take note of where the agent is; do not ask it anything yet.

        Args:
            endpoint: Path of its socket, or its address; by default, where `dstack-sdk` looks for it.
            timeout: Seconds that it may take for all that one method here asks.
            info_lifetime: Seconds for which answers of `info` and `gpu_info` are given again.
        """
        self._endpoint = endpoint
        self._timeout = timeout
        self._info = CachedCall(self._ask_info, info_lifetime)
        self._told_of_no_gpu_info = False
        self._gpu_info = CachedCall(self._ask_gpu_info, info_lifetime)

    def signing_keys(self, model_name: str) -> AppKeys:
        """This app's signing keys, from dstack's KMS. Their paths alone decide what they are.

        Raises:
            DstackError: They cannot be had, or are no keys. The message does not quote them.
        """

        def ask(client: DstackClient) -> tuple[bytes, list[str], bytes, list[str] | None]:
            ecdsa = client.get_key(f"{model_name}/ecdsa-signing-key", KEY_PURPOSE)
            # An OS before 0.5.7 may sign another key's chain where it is asked for an Ed25519 one.
            of_old = _is_of_old(client)
            algorithm = "secp256k1" if of_old else "ed25519"
            ed25519 = client.get_key(f"{model_name}/ed25519-signing-key", KEY_PURPOSE, algorithm)
            chain = None if of_old else ed25519.signature_chain
            return ecdsa.decode_key(), ecdsa.signature_chain, ed25519.decode_key(), chain

        ecdsa_secret, ecdsa_chain, ed25519_seed, ed25519_chain = self._ask("signing keys", ask)
        try:
            keys = SigningKeys.from_secrets(ecdsa_secret, ed25519_seed)
        except ValueError as error:
            raise DstackError(f"dstack's KMS gave no usable signing keys: {error}") from None
        return AppKeys(keys, checked_chains(keys, KEY_PURPOSE, ecdsa_chain, ed25519_chain))

    def tls_key(self, names: Sequence[str]) -> TlsKey:
        """A TLS key that the agent makes for this call, with a certificate that holds a quote of it (RA-TLS).

        Args:
            names: Host names and addresses for the certificate; the first that fits is its subject.

        Raises:
            DstackError: It cannot be had, or is no key. The message does not quote it.
        """

        def ask(client: DstackClient) -> tuple[str, list[str]]:
            usage = {"usage_ra_tls": True, "usage_server_auth": True}
            with_app_info = None if _is_of_old(client) else True
            answer = client.get_tls_key(common_name(names), list(names), **usage, with_app_info=with_app_info)
            return answer.key, answer.certificate_chain

        private_key, certificates = self._ask("a TLS key", ask)
        try:
            return TlsKey.from_pem(private_key, certificates)
        except ValueError as error:
            raise DstackError(f"dstack's guest agent gave no usable TLS key: {error}") from None

    def quote(self, report_data: bytes) -> Quote:
        """A fresh quote.

        Args:
            report_data: 64 bytes to be quoted.

        Raises:
            DstackError: It cannot be had.
        """

        def ask(client: DstackClient) -> Quote | None:
            answer = client.get_quote(report_data)
            if not answer.quote:
                return None
            event_log = checked_json(json.loads(answer.event_log))
            if not isinstance(event_log, list):
                raise TypeError
            bytes.fromhex(answer.quote)  # or it is none
            return Quote(answer.quote, event_log, checked_json(answer.vm_config))

        if (quote := self._ask("a quote", ask)) is None:
            raise DstackError("dstack's guest agent gave no TDX quote: this platform is not TDX")
        return quote

    def info(self) -> dict[str, Any]:
        """What dstack tells of this app, as it tells it, but for `tcb_info`, which is parsed; some minutes old perhaps.

        Raises:
            DstackError: It cannot be had.
        """
        return self._info()

    def gpu_info(self) -> str | None:
        """The evidence on the GPUs that the guest has checked when it booted, byte for byte.

        Returns:
            JSON, as it came; None where the guest has checked none, or its agent has no such method (OS before 0.6).

        Raises:
            DstackError: It cannot be had.
        """
        try:
            return self._gpu_info() or None
        except _UnknownMethodError as error:
            if not self._told_of_no_gpu_info:
                self._told_of_no_gpu_info = True
                logger.info("reports go without gpu_info: %s", error)
            return None

    def _ask_info(self) -> dict[str, Any]:
        def ask(client: DstackClient) -> dict[str, Any]:
            info = _post(client, "/Info")
            if isinstance(info["tcb_info"], str):
                info["tcb_info"] = json.loads(info["tcb_info"])
            if not isinstance(info["tcb_info"], dict):
                raise TypeError
            return checked_json(info)

        return self._ask("information on this app", ask)

    def _ask_gpu_info(self) -> str:
        def ask(client: DstackClient) -> str:
            try:
                text = _post(client, "/GpuInfo")["attestation"]
            except httpx.HTTPStatusError as error:
                if error.response.status_code in _UNKNOWN_METHOD:
                    raise _UnknownMethodError(_refused_gpu_info(error.response)) from None
                raise
            if not isinstance(text, str):
                raise TypeError
            return checked_json(text)

        return self._ask("the GPUs", ask)

    def _ask[T](self, what: str, ask: Callable[[DstackClient], T]) -> T:
        # The SDK raises what its parts raise; none of their messages is worth the risk of its quoting a key.
        endpoint = get_endpoint(self._endpoint)
        try:
            client = DstackClient(endpoint, timeout=self._timeout)
            with BoundedTransport(client.async_client.sync_transport, self._timeout) as bounded:
                client.async_client.sync_transport = bounded  # type: ignore[assignment]  # httpx takes any transport
                with client:  # `as` would give the SDK's asynchronous client
                    return ask(client)
        except FileNotFoundError:
            reason = "its socket is not there (it has to be mounted)"
        except httpx.TimeoutException:
            reason = f"it did not answer within {self._timeout:g} seconds"
        except AnswerTooLargeError:
            reason = "its answer is too large"
        except httpx.HTTPStatusError as error:
            reason = f"it answered with HTTP status {error.response.status_code}"
        except httpx.InvalidURL:
            reason = "its address is none"
        except httpx.HTTPError as error:
            reason = f"it cannot be talked to ({type(error).__name__})"
        except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
            reason = f"its answer could not be read ({type(error).__name__})"
        message = f"dstack's guest agent gave no answer on {what}: {reason}; it was asked at {shown_endpoint(endpoint)}"
        raise DstackError(message) from None


class _UnknownMethodError(Exception):
    """The agent knows no such method."""


def _refused_gpu_info(response: httpx.Response) -> str:
    status = f"dstack's guest agent answered to GpuInfo with HTTP status {response.status_code}"
    if response.status_code == 400 and "Service not found" not in response.text:
        return f"{status}, though it seems to know that method; its own log says why"
    return f"{status}, as OS versions before 0.6 do, which have no such method"


def _is_of_old(client: DstackClient) -> bool:
    """Whether the OS is older than 0.5.7, which tells its version and has what the SDK asks for by `algorithm`.

    The SDK would take every failure for that: an agent that is busy, too.
    """
    try:
        client.version()
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _UNKNOWN_METHOD:
            return True
        raise
    return False


def _post(client: DstackClient, path: str) -> dict[str, Any]:
    """Call a method without arguments; give all of its answer, which the SDK's models do not."""
    agent = client.async_client
    # Not closed here: the transport is the SDK's, too.
    response = httpx.Client(transport=agent.sync_transport, base_url=agent.base_url).post(path, json={})
    response.raise_for_status()
    answer = response.json()
    if not isinstance(answer, dict):
        raise TypeError
    return answer
