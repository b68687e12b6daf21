"""The TLS key of `TLS_FROM_DSTACK=1`: the guest agent makes it, and it is in memory only.

The agent makes another key at each call, and its certificate holds a quote of that key. Processes that are one proxy to
their clients share one key (`addons.launcher.supervised_tls`): a report of one worker then binds the key that a client
meets at another.
"""

import logging

from attest_web.dstack.guest_agent import Dstack, DstackError
from attest_web.process.memory_file import MemoryFile
from attest_web.settings import Settings, SettingsError

logger = logging.getLogger(__name__)


def make_tls_file(settings: Settings, dstack: Dstack) -> MemoryFile:
    """A fresh key and its chain, in PEM, as mitmproxy's `certs` takes them; one without attestation is logged.

    Args:
        settings: Have the certificate's names.
        dstack: Makes them; may block.

    Raises:
        SettingsError: The agent does not return them.
    """
    try:
        key = dstack.tls_key(settings.tls_names)
        if not key.attested:
            logger.warning(
                "TLS_FROM_DSTACK=1: the certificate holds no attestation of its key, as those of dstack before 0.5.6; "
                "clients can tell by reports alone whose it is"
            )
        return MemoryFile.holding(key.pem, "tls key")
    except DstackError as error:
        hint = "TLS_FROM_DSTACK=1 needs it; without a TEE, serve a key of your own with --certs"
        raise SettingsError([f"{error}. {hint}"]) from None
    except OSError as error:
        problem = f"TLS_FROM_DSTACK=1 needs a file in memory, which cannot be made: {error.strerror}"
        raise SettingsError([problem]) from None
