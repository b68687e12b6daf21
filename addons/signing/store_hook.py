"""The hook in which the end of a signed response waits until its signature is in a store that several proxies share.

A body's modifier cannot wait; a layer can, in a blocking hook, which delays only its own stream. The hook is not used
if the store is this process's own memory.
"""

from concurrent.futures import Future
from dataclasses import dataclass

from mitmproxy.proxy import commands


@dataclass
class StoringHook(commands.StartHook):
    """A signature is being stored. The hook's name in addons is `storing`.

    Attributes:
        stored: Resolved once the signature is durable, or if it cannot become durable soon.
    """

    stored: Future[None]
