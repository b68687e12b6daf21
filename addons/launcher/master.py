"""mitmproxy's master and its addon manager, with only the addons that a signing proxy needs.

mitmdump has about thirty addons, and looks up the hook of each of them at every event. Here the hooks of an event are
looked up once; and if none of them has to be awaited, they are called without a task of their own. The arguments and
the order of hooks, their errors and `AddonHalt` are handled as in mitmproxy.
"""

import dataclasses
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mitmproxy import exceptions, flow, hooks
from mitmproxy.addonmanager import AddonManager, safecall
from mitmproxy.addons import core, errorcheck, next_layer, termlog, tlsconfig, update_alt_svc
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.optmanager import unset

Functions = tuple[Callable[..., Any], ...]

_UPDATE = hooks.UpdateHook([])


class CachedAddonManager(AddonManager):
    """An addon manager that caches the hooks of each event, after `settle` was called."""

    def __init__(self, master: Master) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self._settled = False
        self._functions: dict[str, tuple[Functions, ...]] = {}
        self._argument_names: dict[type[hooks.Hook], tuple[str, ...]] = {}

    def settle(self) -> None:
        """Start to cache: from now on, addons change only through this manager."""
        self._settled = True

    def clear(self) -> None:
        """As in mitmproxy."""
        super().clear()  # type: ignore[no-untyped-call]
        self._functions.clear()

    def register(self, addon: Any) -> Any:
        """As in mitmproxy."""
        self._functions.clear()
        try:
            return super().register(addon)  # type: ignore[no-untyped-call]
        finally:
            self._functions.clear()

    def add(self, *addons: Any) -> None:
        """As in mitmproxy."""
        super().add(*addons)  # type: ignore[no-untyped-call]
        self._functions.clear()

    def remove(self, addon: Any) -> None:
        """As in mitmproxy."""
        super().remove(addon)  # type: ignore[no-untyped-call]
        self._functions.clear()

    def functions(self, event: hooks.Hook) -> tuple[Functions, ...]:
        """The hooks of an event: a group for each addon of the chain, with those of the addons below it."""
        found = self._functions.get(event.name)
        if found is None:
            groups = (tuple(function for _, function in self._iter_hooks(addon, event)) for addon in self.chain)
            found = tuple(group for group in groups if group)
            if self._settled:
                self._functions[event.name] = found
        return found

    def arguments(self, event: hooks.Hook) -> list[Any]:
        """`event.args()`, with the names of the fields cached by class."""
        names = self._argument_names.get(type(event))
        if names is None:
            names = self._argument_names[type(event)] = tuple(field.name for field in dataclasses.fields(event))  # type: ignore[arg-type]
        return [getattr(event, name) for name in names]

    def call(self, event: hooks.Hook) -> Coroutine[Any, Any, None] | None:
        """Call the hooks of an event, up to the first one that has to be awaited.

        Returns:
            A coroutine for the remaining hooks, which has to be awaited; None if all were called.
        """
        groups = self.functions(event)
        if not groups:
            return None
        arguments = self.arguments(event)
        for number, group in enumerate(groups):
            try:
                for done, function in enumerate(group, 1):
                    result = function(*arguments)
                    if result is not None and inspect.isawaitable(result):
                        return self._go_on(_awaiting(result), group[done:], groups[number + 1 :], arguments)
            except exceptions.AddonHalt:
                return None
            except Exception:
                with safecall():  # logs the error, and raises only an OptionsError
                    raise
        return None

    @staticmethod
    async def _go_on(
        first: Callable[..., Any], group: Functions, groups: tuple[Functions, ...], arguments: list[Any]
    ) -> None:
        for functions in ((first, *group), *groups):
            try:
                for function in functions:
                    result = function(*arguments)
                    if result is not None and inspect.isawaitable(result):
                        await result
            except exceptions.AddonHalt:
                return
            except Exception:
                with safecall():
                    raise

    async def trigger_event(self, event: hooks.Hook) -> None:
        """As in mitmproxy."""
        if (rest := self.call(event)) is not None:
            await rest

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """As in mitmproxy."""
        await self.trigger_event(event)
        self.tell_of_update(event.args()[0])

    def tell_of_update(self, message: object) -> None:
        """Call the `update` hooks: a flow has changed."""
        if isinstance(message, flow.Flow) and self.functions(_UPDATE):
            self.trigger(hooks.UpdateHook([message]))


def _awaiting(result: Awaitable[None]) -> Callable[..., Awaitable[None]]:
    return lambda *_: result


class CachedOptions(Options):
    """Options that are read without copies; mitmproxy copies each value, and a default value twice."""

    def __getattr__(self, name: str) -> Any:
        option = self.__dict__["_options"].get(name)
        if option is not None:
            value = option._default if option.value is unset else option.value
            if value is None or isinstance(value, str | int | float):
                return value
        return super().__getattr__(name)  # type: ignore[no-untyped-call]


class QuietTlsConfig(tlsconfig.TlsConfig):
    """mitmproxy's TLS settings, without the page of its certificate authority, which no client uses here."""

    name = "tlsconfig"
    request: Any = None


class _PrefixFormatter(logging.Formatter):
    def __init__(self, prefix: str, inner: logging.Formatter) -> None:
        super().__init__()
        self._prefix = prefix
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return self._prefix + self._inner.format(record)


class ProxyMaster(Master):
    """A master with `CachedAddonManager`, and without mitmproxy's unused addons and log events."""

    addons: CachedAddonManager

    def __init__(self, options: Options, proxyserver: Proxyserver) -> None:
        """Make a master with mitmproxy's addons. Needs a running event loop.

        Args:
            options: mitmproxy's options.
            proxyserver: Accepts the connections.
        """
        super().__init__(options)
        # They turn every log line into an event for the addons, through the event loop.
        self._legacy_log_events.uninstall()
        self.addons = CachedAddonManager(self)
        self._termlog_addon = termlog.TermLog()
        self._log = self._termlog_addon.logger
        self.addons.add(self._termlog_addon)
        self._errors = errorcheck.ErrorCheck()
        # UpdateAltSvc: an upstream's Alt-Svc would lead clients past this proxy.
        self.addons.add(
            core.Core(),
            proxyserver,
            QuietTlsConfig(),
            update_alt_svc.UpdateAltSvc(),
        )

    def prefix_log(self, prefix: str) -> None:
        """Set the prefix of every log line."""
        self._log.setFormatter(_PrefixFormatter(prefix, self._log.formatter or logging.Formatter()))

    def add_signer(self, signer: Any, *more: Any) -> None:
        """Add the signing addon, which starts with the next change of an option, and the addons after it."""
        # NextLayer is the fallback behind it. It adds no option, which would be such a change.
        self.addons.add(signer, next_layer.NextLayer(), self._errors, *more)

    async def running(self) -> None:
        """As in mitmproxy."""
        await super().running()
        self.addons.settle()
