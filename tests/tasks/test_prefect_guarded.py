"""What stands before Prefect's server: other host names and other sites are refused, over HTTP and over web sockets.

tests/flows/test_triggered_finetune.py asks the same of a real server.
"""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from tasks.prefect_guarded import LoopbackOnly


async def socket(connection: WebSocket) -> None:
    await connection.accept()
    await connection.send_text("event taken")


@pytest.fixture
def client() -> TestClient:
    routes = [Route("/api", lambda request: PlainTextResponse("hello")), WebSocketRoute("/api/events/in", socket)]
    return TestClient(LoopbackOnly(Starlette(routes=routes), 4200), base_url="http://127.0.0.1:4200")


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "LOCALHOST:4200", "[::1]:4200"])
def test_this_machine_s_names_pass_with_and_without_their_own_origin(client: TestClient, host: str) -> None:
    for headers in ({}, {"origin": f"http://{host}"}):
        assert client.get("/api", headers={"host": host, **headers}).text == "hello"
        with client.websocket_connect("/api/events/in", headers={"host": host, **headers}) as opened:
            assert opened.receive_text() == "event taken"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:4200"},
        {"host": "127.0.0.1:4200.evil.example"},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:4201"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:4200"},
        {"origin": "http://127.0.0.1:9999"},
    ],
    ids=str,
)
def test_another_name_and_another_site_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    refused = client.get("/api", headers=headers)
    assert refused.status_code == 403
    assert "for programs on this machine" in refused.text
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/events/in", headers=headers):
        raise AssertionError("opened")


def test_two_hosts_in_one_request_are_none(client: TestClient) -> None:
    twice = [("host", "127.0.0.1:4200"), ("host", "evil.example")]
    assert client.get("/api", headers=twice).status_code == 403
