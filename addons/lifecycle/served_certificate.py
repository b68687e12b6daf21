"""Has mitmproxy serve TLS with a key and a chain that are in memory only (`TLS_FROM_DSTACK=1`)."""

from typing import Any

from mitmproxy import ctx, exceptions

from attest_web.process.memory_file import MemoryFile


class ServedCertificate:
    """Keeps the file of key and chain open, and mitmproxy's option `certs` set to it."""

    def __init__(self, file: MemoryFile) -> None:
        """Make the addon; no option is changed yet.

        Args:
            file: The key and its chain, in PEM.
        """
        self._file = file

    def options(self) -> dict[str, Any]:
        """The required values of mitmproxy's options."""
        return {"certs": [str(self._file.path)]}

    def configure(self, updated: set[str]) -> None:
        """Reject another key: reports bind this one."""
        if "certs" in updated and list(ctx.options.certs) != self.options()["certs"]:
            raise exceptions.OptionsError("the option certs is dstack's: restart without TLS_FROM_DSTACK to change it")
