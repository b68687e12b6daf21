import pytest

from tests.addons.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()
