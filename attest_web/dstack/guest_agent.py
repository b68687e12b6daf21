"""dstack's guest agent: the keys of this app, quotes of this TD, and information on both.

Its API is HTTP over a Unix socket. `dstack-sdk` finds the socket and makes the calls; those that the SDK has no method
for, or whose response it would not return whole, go over its transport. Every call opens a connection of its own, so a
restart of the agent needs no reconnect. Calls block, so none may run on the event loop.
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
"""Seconds for which the agent's information on this app is cached. Each `Info` costs the agent a quote, and a running
app can extend the measurements only on OS versions before 0.6, by events of its own (EmitEvent)."""

_UNKNOWN_METHOD: Final = (400, 404)
"""Statuses of an unknown method: 400 from the guest agent, 404 from a proxy in front of it."""


class DstackError(Exception):
    """The guest agent cannot be reached, or its response is malformed.

    The message is for the operator: it says what to check, and names the agent's socket.
    """


@dataclass(frozen=True)
class Quote:
    """An Intel TDX quote.

    Attributes:
        quote: The quote in hex.
        event_log: The events that were measured into the RTMRs, in order.
        vm_config: The host's description of this virtual machine, in JSON as received; empty without one.
    """

    quote: str
    event_log: list[dict[str, Any]]
    vm_config: str = ""


@dataclass(frozen=True)
class AppKeys:
    """This app's signing keys and their signature chains.

    Attributes:
        keys: The keys.
        chains: The signatures that lead from them to the app's key.
    """

    keys: SigningKeys
    chains: KeyChains


class Dstack:
    """The guest agent of the confidential VM that this process runs in."""

    def __init__(self, endpoint: str | None = None, timeout: float = 30, info_lifetime: float = INFO_LIFETIME) -> None:
        """Keep the agent's address; nothing is sent yet.

        Args:
            endpoint: Path of its socket, or its address; by default, where `dstack-sdk` looks for it.
            timeout: Seconds for all calls of one method here together.
            info_lifetime: Seconds for which `info` and `gpu_info` are cached.
        """
        self._endpoint = endpoint
        self._timeout = timeout
        self._info = CachedCall(self._ask_info, info_lifetime)
        self._told_of_no_gpu_info = False
        self._gpu_info = CachedCall(self._ask_gpu_info, info_lifetime)

    def signing_keys(self, model_name: str) -> AppKeys:
        """This app's signing keys, from dstack's KMS. Their paths alone decide what they are.

        Raises:
            DstackError: The agent does not return them, or they are malformed. The message does not quote them.
        """

        def ask(client: DstackClient) -> tuple[bytes, list[str], bytes, list[str] | None]:
            ecdsa = client.get_key(f"{model_name}/ecdsa-signing-key", KEY_PURPOSE)
            # An OS before 0.5.7 may return another key's chain for an Ed25519 key.
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
            DstackError: The agent does not return it, or it is malformed. The message does not quote it.
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
            DstackError: The agent does not return it.
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
        """The agent's information on this app, as received, except that `tcb_info` is parsed; cached for some minutes.

        Raises:
            DstackError: The agent does not return it.
        """
        return self._info()

    def gpu_info(self) -> str | None:
        """The evidence on the GPUs that the guest has checked at boot, byte for byte.

        Returns:
            JSON, as it came; None where the guest has checked none, or its agent has no such method (OS before 0.6).

        Raises:
            DstackError: The agent does not return it.
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
        # The SDK raises errors of all its dependencies, whose messages could quote a key.
        endpoint = get_endpoint(self._endpoint)
        try:
            client = DstackClient(endpoint, timeout=self._timeout)
            with BoundedTransport(client.async_client.sync_transport, self._timeout) as bounded:
                client.async_client.sync_transport = bounded  # type: ignore[assignment]  # httpx takes any transport
                with client:  # `as` would return the SDK's asynchronous client
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
    """The agent does not have the method."""


def _refused_gpu_info(response: httpx.Response) -> str:
    status = f"dstack's guest agent answered to GpuInfo with HTTP status {response.status_code}"
    if response.status_code == 400 and "Service not found" not in response.text:
        return f"{status}, though it seems to know that method; its own log says why"
    return f"{status}, as OS versions before 0.6 do, which have no such method"


def _is_of_old(client: DstackClient) -> bool:
    """Whether the OS is older than 0.5.7, which reports its version and has keys by `algorithm`.

    The SDK would assume an old OS after every failure, such as that of a busy agent.
    """
    try:
        client.version()
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _UNKNOWN_METHOD:
            return True
        raise
    return False


def _post(client: DstackClient, path: str) -> dict[str, Any]:
    """Call a method without arguments; return all of its response, unlike the SDK's models."""
    agent = client.async_client
    # Not closed here: the transport is the SDK's, too.
    response = httpx.Client(transport=agent.sync_transport, base_url=agent.base_url).post(path, json={})
    response.raise_for_status()
    answer = response.json()
    if not isinstance(answer, dict):
        raise TypeError
    return answer
