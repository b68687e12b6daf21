"""The master calls the same hooks as mitmproxy's, in the same order, and handles their errors alike."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from mitmproxy import exceptions, hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.log import LegacyLogEvents
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.test import tflow

from addons.launcher.master import CachedAddonManager, CachedOptions


class Addon:
    """Records its calls; its hook may fail, wait or raise AddonHalt."""

    def __init__(self, name: str, calls: list[str], act: Callable[[], Any] | None = None, *below: "Addon") -> None:
        self.name = name
        self.addons = list(below)
        self._calls = calls
        self._act = act

    def request(self, flow: object) -> Any:
        self._calls.append(self.name)
        return self._act() if self._act else None


def fail(error: type[Exception]) -> Callable[[], None]:
    def raising() -> None:
        raise error("x")

    return raising


async def pause() -> None:
    await asyncio.sleep(0)


async def pause_and_fail() -> None:
    await asyncio.sleep(0)
    raise ValueError


async def pause_and_halt() -> None:
    await asyncio.sleep(0)
    raise exceptions.AddonHalt


ACTS: list[Callable[[], Any] | None] = [
    None,
    fail(ValueError),
    fail(exceptions.AddonHalt),
    pause,
    pause_and_fail,
    pause_and_halt,
]


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("where", ["a", "aa", "b", "c"])
def test_cached_addon_manager_calls_the_same_hooks_as_mitmproxys(
    where: str, act: Callable[[], Any] | None, settled: bool
) -> None:
    async def called_by(kind: type[AddonManager]) -> list[str]:
        calls: list[str] = []
        master = Master(Options())
        manager = master.addons = kind(master)
        acts = {where: act}
        below = [Addon(name, calls, acts.get(name)) for name in ("aa", "ab")]
        manager.add(
            Addon("a", calls, acts.get("a"), *below), Addon("b", calls, acts.get("b")), Addon("c", calls, acts.get("c"))
        )
        if settled and isinstance(manager, CachedAddonManager):
            manager.settle()
        for _ in range(2):
            await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
        master._legacy_log_events.uninstall()
        return calls

    assert asyncio.run(called_by(CachedAddonManager)) == asyncio.run(called_by(AddonManager))


def test_cached_addon_manager_calls_addons_added_later_and_not_removed_ones() -> None:
    async def main() -> None:
        calls: list[str] = []
        master = Master(Options())
        manager = master.addons = CachedAddonManager(master)
        late = Addon("late", calls)
        manager.add(Addon("early", calls))
        manager.settle()
        await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
        manager.add(late)
        await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
        manager.remove(late)
        await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
        master._legacy_log_events.uninstall()
        assert calls == ["early", "early", "late", "early"]

    asyncio.run(main())


def test_cached_addon_manager_propagates_options_errors_to_the_caller() -> None:
    class Refusing:
        def configure(self, updated: set[str]) -> None:
            raise exceptions.OptionsError("no")

    async def main() -> None:
        master = Master(Options())
        manager = master.addons = CachedAddonManager(master)
        manager.add(Refusing())
        with pytest.raises(exceptions.OptionsError):
            await manager.trigger_event(hooks.ConfigureHook(set()))
        with pytest.raises(exceptions.OptionsError):
            master.options.update(showhost=True)
        master._legacy_log_events.uninstall()

    asyncio.run(main())


def test_mitmproxy_legacy_log_events_emit_the_add_log_hook() -> None:
    assert "AddLogHook" in LegacyLogEvents.emit.__code__.co_names


def test_cached_options_equal_mitmproxys_and_follow_updates() -> None:
    ours: Options = CachedOptions()
    theirs = Options()
    for options in (ours, theirs):
        Proxyserver().load(options)  # declares some
        options.add_option("list_of_words", Sequence[str], ["a"], "")
    for name in sorted(theirs.keys()):
        assert getattr(ours, name) == getattr(theirs, name), name
    ours.update(keep_host_header=True, body_size_limit="1k", list_of_words=["b"])
    assert (ours.keep_host_header, ours.body_size_limit, ours.list_of_words) == (True, "1k", ["b"])
    ours.reset()
    assert (ours.keep_host_header, ours.body_size_limit, ours.list_of_words) == (False, None, ["a"])


def test_cached_options_return_a_copy_of_a_list() -> None:
    options = CachedOptions()
    options.add_option("list_of_words", Sequence[str], ["a"], "")
    options.list_of_words.append("b")
    assert options.list_of_words == ["a"]


def test_cached_options_missing_option_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = CachedOptions().no_such_thing
