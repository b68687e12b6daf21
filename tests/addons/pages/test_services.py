"""The services made by the settings, and which of them a worker shares with the others."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from addons.lifecycle.worker_context import WorkerContext
from addons.pages import services as services_module
from addons.pages.services import Services, make_services
from attest_web.keys import SigningKeys
from attest_web.process.memory_file import MemoryFile
from attest_web.settings import Settings, SettingsError, load_settings
from attest_web.store_address import parse_address

type Make = Callable[..., Services]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes services, and closes them."""
    monkeypatch.setenv("DSTACK_SIMULATOR_ENDPOINT", str(tmp_path / "none.sock"))
    closing: list[Callable[[], None]] = []

    def made(context: WorkerContext | None = None, **settings: str) -> Services:
        given = {"model_name": "m", "token": "t", "dev": "1", "attest_port": "0", **settings}
        services = make_services(load_settings(Settings, given), context or WorkerContext(), lambda: True, "127.0.0.1")
        closing.extend([*services.closing, services.side_port.stop_accepting])
        return services

    yield made
    for close in closing:
        close()


@pytest.mark.parametrize(("workers", "expected"), [(1, (6, 8)), (4, (2, 2)), (3, (2, 3))])
def test_services_divide_the_rate_and_burst_among_workers(
    make: Make, monkeypatch: pytest.MonkeyPatch, workers: int, expected: tuple[int, int]
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(services_module, "RateLimiter", lambda *limits: made.append(limits))
    make(WorkerContext(workers=workers), rate_limit_per_second="6", rate_limit_burst_size="8")
    assert made == [expected]


def test_services_without_a_rate_have_no_limiter(make: Make) -> None:
    assert make(rate_limit_per_second="0").limiter is None


def test_services_of_a_worker_sign_with_its_supervisors_keys(make: Make, keys: SigningKeys) -> None:
    assert make(WorkerContext(keys=keys)).keys is keys
    assert make().keys.ecdsa_address != keys.ecdsa_address


def test_services_without_keys_of_a_guest_agent_raise_an_error_with_advice(make: Make) -> None:
    with pytest.raises(SettingsError, match="DEV=1 signs with random keys"):
        make(dev="0")


def test_services_of_a_worker_use_the_supervisors_store_unless_the_settings_name_one(
    make: Make, tmp_path: Path
) -> None:
    shared = parse_address(f"sqlite://{tmp_path}/shared.db")
    assert make(WorkerContext(store=shared)).store.shared
    assert (tmp_path / "shared.db").exists()
    assert make(WorkerContext(store=shared), signature_store=f"sqlite://{tmp_path}/own.db").store.shared
    assert (tmp_path / "own.db").exists()
    assert not make().store.shared


def test_services_of_a_worker_use_the_inherited_side_port_socket(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        services = make(WorkerContext(side_listener=listener), attest_port="1")
        assert services.side_port.port == listener.getsockname()[1]


def test_services_side_port_in_use_error_names_the_setting(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"ATTEST_PORT {port} cannot be opened: Address already in use"):
            make(attest_port=str(port))


def test_services_of_a_worker_use_its_supervisors_tls_key(make: Make) -> None:
    file = MemoryFile.holding(b"pem", "test")
    assert make(WorkerContext(tls_file=file), tls_from_dstack="1").tls_file is file
    assert make().tls_file is None


def test_services_accept_the_tokens_of_the_settings(make: Make) -> None:
    services = make(token="one,two")
    assert all(services.tokens.credential(f"Bearer {token}".encode()) for token in ("one", "two"))
    assert services.tokens.credential(b"Bearer one,two") is None
