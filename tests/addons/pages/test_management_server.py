import asyncio
import socket

import pytest
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.exchange.route import Kind, Size
from addons.pages.management_server import ManagementServer
from addons.routing.routes import Router
from attest_web.process.listening import listen
from tests.addons.conftest import MakeFlow


def client_at(port: int, host: str = "127.0.0.1") -> Client:
    return Client(peername=("127.0.0.1", 4711), sockname=(host, port), timestamp_start=0)


@pytest.fixture
def side_port() -> ManagementServer:
    return ManagementServer(listen("127.0.0.1", 0))


def test_connections_are_identified_by_their_local_port(side_port: ManagementServer) -> None:
    assert side_port.accepted(client_at(side_port.port, "::ffff:127.0.0.1"))
    assert not side_port.accepted(client_at(side_port.port ^ 1))
    gone = client_at(side_port.port)
    gone.sockname = None  # type: ignore[assignment]  # a connection can be gone that early
    assert not side_port.accepted(gone)
    side_port.done()


def test_management_server_connections_cannot_connect_to_an_upstream(side_port: ManagementServer) -> None:
    for port, refused in ((side_port.port, True), (side_port.port ^ 1, False)):
        data = ServerConnectionHookData(Server(address=("vllm", 8000)), client_at(port))
        side_port.server_connect(data)
        assert (data.server.error is not None) is refused
    side_port.done()


def test_management_server_can_be_stopped_before_its_start_and_twice(side_port: ManagementServer) -> None:
    side_port.stop_accepting()
    side_port.done()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", side_port.port), timeout=5)


def test_management_server_can_be_stopped_during_its_start(side_port: ManagementServer) -> None:
    async def start_and_stop() -> None:
        side_port._serving = asyncio.get_running_loop().create_task(asyncio.sleep(60))  # type: ignore[arg-type]
        side_port.stop_accepting()

    asyncio.run(start_and_stop())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", side_port.port), timeout=5)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/anything", "/v1/realtime"])
def test_management_server_requests_are_all_routed_to_the_proof_pages(
    make_flow: MakeFlow, side_port: ManagementServer, path: str
) -> None:
    router = Router(at_side_port=side_port.accepted)
    flow = make_flow(path=path)
    flow.client_conn = client_at(side_port.port)
    route = router.route_of(flow)
    assert (route.kind, route.name, route.size, route.needs_token) == (Kind.PROOF, "other", Size.PROOF, False)
    elsewhere = make_flow(path=path)
    elsewhere.client_conn = client_at(side_port.port ^ 1)
    assert router.route_of(elsewhere).kind is not Kind.PROOF
    side_port.done()
