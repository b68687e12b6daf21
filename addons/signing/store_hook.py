"""The hook that the end of a signed answer waits in, where its signature has to reach a store that others share.

Stream modifiers cannot wait, and layers can, in a blocking hook: only the one stream waits. There is no such hook where
the store is this process's own memory.
"""

from concurrent.futures import Future
from dataclasses import dataclass

from mitmproxy.proxy import commands


@dataclass
class StoringHook(commands.StartHook):
    """A signature is on its way to the store. Its name in addons is `storing`.

    Attributes:
        stored: Done when it has arrived, or will not arrive soon.
    """

    stored: Future[None]
