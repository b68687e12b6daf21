from collections.abc import Iterator

import pytest
from mitmproxy import flow, http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons

from addons.inspection.flow_list import FlowList
from tests.addons.conftest import MakeFlow


@pytest.fixture
def view() -> Iterator[View]:
    made = View()
    with taddons.context(made):
        yield made


def arrive(view: View, kept: FlowList, *flows: http.HTTPFlow, ends: bool = True) -> None:
    """Flows, one after the other, in the order of the hooks: ours come before the list's."""
    for arriving in flows:
        kept.requestheaders(arriving)
        view.requestheaders(arriving)
        if ends:
            kept.response(arriving)
            view.response(arriving)
            arriving.live = False


def listed(view: View) -> list[flow.Flow]:
    return list(view.resolve("@all"))


def test_flow_list_over_its_limit_drops_the_oldest_flows(view: View, make_flow: MakeFlow) -> None:
    flows = [make_flow() for _ in range(5)]
    arrive(view, FlowList(view, 3), *flows)
    assert listed(view) == flows[2:]
    assert list(view) == flows[2:]


def test_flow_list_keeps_a_live_flow_until_it_ends(view: View, make_flow: MakeFlow) -> None:
    kept = FlowList(view, 2)
    flows = [make_flow() for _ in range(5)]
    arrive(view, kept, *flows[:3], ends=False)
    arrive(view, kept, *flows[3:])
    assert listed(view) == [*flows[:3], flows[4]]
    for ended in flows[:3]:
        ended.live = False
    kept.error(flows[4])
    assert listed(view) == [flows[2], flows[4]]


def test_flow_list_counts_flows_hidden_by_a_filter(view: View, make_flow: MakeFlow) -> None:
    view.set_filter_cmd("~m NONE")
    flows = [make_flow() for _ in range(4)]
    arrive(view, FlowList(view, 3), *flows)
    assert listed(view) == flows[1:]
    assert len(view) == 0
