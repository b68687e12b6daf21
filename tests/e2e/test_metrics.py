"""Metrics of real proxies, compared with what was sent."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError, OpenAI

from tests.e2e.support.metrics import Scrape, scraped_until
from tests.e2e.support.processes import MODEL, PROGRAMS, TOKEN, Proxy, running_proxy
from tests.e2e.support.workers import children, started

CHATS = "/v1/chat/completions"


def talk(proxy: Proxy, count: int) -> None:
    """So many chats, streams, refusals and errors."""
    for number in range(count):
        with OpenAI(base_url=f"{proxy.url}/v1", api_key=TOKEN, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": f"one two three {number}"}]
            client.chat.completions.create(model=MODEL, messages=messages)
            options: Any = {"include_usage": True}
            list(client.chat.completions.create(model=MODEL, messages=messages, stream=True, stream_options=options))
            with pytest.raises(BadRequestError):
                client.chat.completions.create(model=MODEL, messages=[])
            with pytest.raises(AuthenticationError):
                client.with_options(api_key="wrong").models.with_raw_response.retrieve("x")


def check(scrape: Scrape, count: int) -> None:
    """That the metrics say just that."""
    assert scrape("tee_requests_total", route=CHATS, method="POST", status="200") == 2 * count
    assert scrape("tee_requests_total", route=CHATS, method="POST", status="400") == count
    assert scrape("tee_requests_total", route="other", method="GET", status="401") == count
    assert scrape("tee_request_duration_seconds_count", route=CHATS) == 3 * count
    assert scrape("tee_exchanges_total", state="signed") == 2 * count
    assert scrape("tee_exchanges_total", state="unsigned", reason="the upstream answered with an error") == count
    assert scrape("tee_refusals_total", reason="unauthorized") == count
    assert scrape("tee_time_to_first_token_seconds_count", route=CHATS) == count
    assert scrape("tee_signing_seconds_count") == 2 * count
    assert scrape("tee_tokens_total", route=CHATS, direction="input") > 0
    assert scrape("tee_tokens_total", direction="output") >= 2 * count
    assert scrape("tee_upstream_errors_total") == 0
    assert scrape("tee_ready") == 1


@pytest.fixture(params=PROGRAMS)
def proxy_of_its_own(request: pytest.FixtureRequest, fake_vllm: str) -> Iterator[Proxy]:
    with running_proxy(fake_vllm, program=request.param) as proxy:
        yield proxy


def test_metrics_on_both_ports_match_the_traffic(proxy_of_its_own: Proxy) -> None:
    proxy = proxy_of_its_own
    talk(proxy, 3)
    for url in (proxy.url, proxy.side_url):
        check(Scrape(url), 3)
    seen = scraped_until(proxy.side_url, lambda now: now("tee_signature_store_size") == 12)
    assert seen("tee_requests_total", route="/metrics") >= 2
    assert seen("tee_time_between_tokens_seconds_count", route=CHATS) > 3
    assert "one two three" not in seen.text


def test_metrics_of_any_worker_cover_all_workers_and_survive_a_killed_one(fake_vllm: str) -> None:
    with started(fake_vllm, workers=2) as proxy:
        talk(proxy, 6)
        for _ in range(6):  # whichever answers
            check(Scrape(proxy.side_url), 6)
        os.kill(children(proxy.process.popen.pid)[0], signal.SIGKILL)
        proxy.process.wait_for("another one takes its place")
        talk(proxy, 2)
        for _ in range(6):
            check(Scrape(proxy.side_url), 8)
