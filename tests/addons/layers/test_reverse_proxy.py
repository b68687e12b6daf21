import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons

from addons.layers.reverse_proxy import option_problems


@pytest.mark.parametrize(
    "option",
    [
        {"stream_large_bodies": "1m"},
        {"body_size_limit": "1m"},
        {"validate_inbound_headers": False},
        {"mode": ["regular"]},
    ],
)
def test_option_problems_name_an_option_that_would_bypass_the_signer(option: dict[str, object]) -> None:
    with taddons.context(Proxyserver()) as context:
        context.options.update(**{"mode": ["reverse:http://vllm:8000"], **option})
        [problem] = option_problems(context.options)
    assert next(iter(option)) in problem
