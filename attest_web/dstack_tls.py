"""What TLS is served with where `TLS_FROM_DSTACK=1`: a key that the guest agent makes, which is in memory alone.

The agent makes another key at each call, and its certificate holds a quote of that key. Processes that are one proxy to
their clients share one key (`addons.supervised_tls`): a report of one worker then binds the key that a client meets at
another.
"""

from attest_web.dstack import Dstack, DstackError
from attest_web.memory_file import MemoryFile
from attest_web.settings import Settings, SettingsError


def make_tls_file(settings: Settings, dstack: Dstack) -> MemoryFile:
    """A fresh key and its chain, in PEM, as mitmproxy's `certs` takes them.

    Args:
        settings: Say for which names.
        dstack: Makes them; may block.

    Raises:
        SettingsError: They cannot be had.
    """
    try:
        return MemoryFile.holding(dstack.tls_key(settings.tls_names).pem, "tls key")
    except DstackError as error:
        hint = "TLS_FROM_DSTACK=1 needs it; without a TEE, serve a key of your own with --certs"
        raise SettingsError([f"{error}. {hint}"]) from None
    except OSError as error:
        problem = f"TLS_FROM_DSTACK=1 needs a file in memory, which cannot be made: {error.strerror}"
        raise SettingsError([problem]) from None
