import asyncio

from prometheus_client import CollectorRegistry, Gauge

from addons.observability.sampled_gauges import SampledGauges


def test_sampled_gauges_are_set_while_the_proxy_runs_and_stop_when_it_is_done() -> None:
    registry = CollectorRegistry()
    one, two = Gauge("one", "", registry=registry), Gauge("two", "", registry=registry)
    looked = asyncio.Event()

    def count() -> int:
        looked.set()
        return 2

    async def main() -> None:
        sampled = SampledGauges({one: lambda: 1, two: count})
        sampled.done()
        sampled.running()
        await looked.wait()
        sampled.done()
        [other] = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait([other])
        assert other.cancelled()

    asyncio.run(main())
    assert (registry.get_sample_value("one"), registry.get_sample_value("two")) == (1, 2)
