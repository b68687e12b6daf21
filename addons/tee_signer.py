"""The script: `mitmdump -s addons/tee_signer.py --mode reverse:http://vllm:8000`.

Declares the options, reads the settings, and registers the chain of addons. It has no logic of its own.
"""

import logging
from collections.abc import Iterable
from typing import Any, Optional

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from addons.chain import make_chain
from addons.layers.reverse_proxy import option_problems
from addons.layers.websocket.revocation import Revocation
from addons.lifecycle.drain import Drain
from addons.lifecycle.served_certificate import ServedCertificate
from addons.lifecycle.temporary_authority import TemporaryAuthority
from addons.lifecycle.worker_context import WorkerContext
from addons.signing.signer import Signer
from attest_web.dstack.endpoint import quiet_libraries, warn_of_simulator
from attest_web.process.core_dumps import forbid_core_dumps
from attest_web.process.json_log import json_formatter
from attest_web.settings import CERTS_PROBLEM, LaunchSettings, Settings, SettingsError, load_settings

logger = logging.getLogger(__name__)

MASKED = "********"
"""Replaces a secret in mitmproxy's options, which mitmproxy shows."""


class TeeSigner:
    """Makes the signing proxy.

    Attributes:
        addons: The chain, in the order in which a request passes it; empty until the settings are known.
    """

    name = "tee_signer"

    def __init__(self, worker_context: WorkerContext | None = None) -> None:
        self.addons: list[Any] = []
        self._worker_context = worker_context or WorkerContext()
        self._refused = False

    def drain(self) -> Drain:
        """The addon that stops the proxy; available when the settings are known."""
        return next(addon for addon in self.addons if isinstance(addon, Drain))

    def replace_tokens(self, tokens: Iterable[str]) -> None:
        """Replace the valid tokens; available when the settings are known."""
        next(addon for addon in self.addons if isinstance(addon, Revocation)).replace_tokens(tokens)

    def signing_addresses(self) -> tuple[str, ...]:
        """The addresses of the signing keys; available when the settings are known."""
        keys = next(addon for addon in self.addons if isinstance(addon, Signer)).keys
        return keys.ecdsa_address, keys.ed25519_address

    def load(self, loader: Loader) -> None:
        """Declare every setting as an option; keep secrets from core dumps and from logs of libraries."""
        forbid_core_dumps()
        quiet_libraries()
        for field, info in Settings.model_fields.items():
            if field not in LaunchSettings.model_fields:  # mitmproxy's own --mode and -p
                help_text = f"{field.upper()}: {info.description}."
                loader.add_option(f"tee_{field}", Optional[str], None, help_text)  # type: ignore[arg-type]  # noqa: UP045

    def configure(self, updated: set[str]) -> None:
        """Make the chain, once; afterwards, reject changes that would not take effect or are forbidden."""
        if not self.addons and not self._refused:
            self._start()
            return
        given = [name for name in updated if name.startswith("tee_") and getattr(ctx.options, name) != MASKED]
        problems = [f"{name} is read at the start; restart to change it" for name in given]
        if problems := problems + option_problems(ctx.options):
            raise exceptions.OptionsError("; ".join(problems))

    def _start(self) -> None:
        given = {field: value for field in Settings.model_fields if (value := _option(field)) is not None}
        problems = option_problems(ctx.options)
        try:
            settings = load_settings(Settings, given)
            if settings.tls_from_dstack and ctx.options.certs:
                problems.append(CERTS_PROBLEM)
            changes = _set_up_log(settings, self._worker_context.number)
            if not problems:
                if not self._worker_context.number:  # a worker's supervisor has warned already
                    warn_of_simulator(dev=settings.dev)
                chain = make_chain(settings, self._worker_context)
                authority = TemporaryAuthority.where_needed(ctx.options.confdir)
                if authority is not None:
                    chain = [*chain, authority]
        except SettingsError as error:
            problems = error.problems + problems
        if problems:
            # mitmproxy stops a start that has logged an error. Raising would add a traceback to every line.
            self._refused = True
            for problem in problems:
                logger.error(problem)
            return
        for addon in chain:
            ctx.master.addons.register(addon)
        self.addons = list(chain)
        secret = [f"tee_{field}" for field in ("token", "signature_store") if field in given]
        changes |= dict.fromkeys(secret, MASKED)
        for addon in chain:
            if isinstance(addon, ServedCertificate | TemporaryAuthority):
                changes |= addon.options()
        ctx.options.update(**changes)


def _set_up_log(settings: Settings, worker: int) -> dict[str, Any]:
    """Set up the log by the settings; return the required values of mitmproxy's options."""
    options: dict[str, Any] = {}
    termlog = ctx.master.addons.get("termlog")  # in mitmdump, mitmweb and tee-signer
    if settings.log_format == "json":
        if termlog is not None:
            termlog.logger.setFormatter(json_formatter(worker))
        if "flow_detail" in ctx.options:
            options["flow_detail"] = 0  # mitmdump's own lines about each flow are text
    if "log_level" in settings.model_fields_set and not ctx.options.has_changed("termlog_verbosity"):
        options["termlog_verbosity"] = "warn" if settings.log_level == "warning" else settings.log_level
        logging.getLogger().setLevel(settings.log_level.upper())
        if termlog is not None:  # for lines that are logged before the option takes effect
            termlog.logger.setLevel(settings.log_level.upper())
    return options


def _option(field: str) -> str | None:
    return getattr(ctx.options, f"tee_{field}", None)


addons = [TeeSigner()]
