"""The hook in which the end of a signed response waits for its signature to reach a store that several proxies share.

A modifier of a body cannot wait; a layer can, in a blocking hook, which holds up its one stream. Where the store is
this process's own memory, the hook is not used.
"""

from concurrent.futures import Future
from dataclasses import dataclass

from mitmproxy.proxy import commands


@dataclass
class StoringHook(commands.StartHook):
    """A signature is on its way to the store. Its name in addons is `storing`.

    Attributes:
        stored: Resolved once the signature is durable, or is known not to become so soon.
    """

    stored: Future[None]
