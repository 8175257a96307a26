"""Where the browser listens: what is taken is said with the way out, and the names it answers to."""

import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cli.listening import address_of, listening, names_of
from schemas.errors import UsageError
from tests.seeded import seeded
from web.app import create_app


def test_a_free_port_is_taken_and_named() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert port
        assert address_of(taken, "127.0.0.1") == f"http://127.0.0.1:{port}/"
        assert address_of(taken, "::1") == f"http://[::1]:{port}/"
        assert address_of(taken, "0.0.0.0") == f"http://{socket.gethostname()}:{port}/"
        with pytest.raises(UsageError, match=r"is taken.*give --port 0"):
            listening("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="is no address of this machine"):
        listening("192.0.2.7", 0)


def test_a_server_on_every_address_is_reached_by_address_and_own_name_never_by_a_strangers(tmp_path: Path) -> None:
    seeded(tmp_path)
    assert names_of("127.0.0.1", ["box.lan"]) == ["127.0.0.1", "127.0.0.1", "localhost", "::1", "box.lan"]
    hosts = names_of("0.0.0.0", ["box.lan"])
    token = "0123456789abcdef0123"
    client = TestClient(create_app(tmp_path, token=token, allowed_hosts=hosts))
    shown = {"authorization": f"Bearer {token}"}
    for host, status in (
        ("192.168.3.4:8377", 200), ("[fe80::1]:8377", 200), ("box.lan", 200), (socket.gethostname(), 200),
        ("evil.example", 403), ("192.168.3.4.evil.example", 403), ("", 403),
    ):  # fmt: skip
        assert client.get("/datasets.json", headers={"host": host, **shown}).status_code == status, host
    alone = TestClient(create_app(tmp_path, allowed_hosts=names_of("127.0.0.1", [])))
    assert alone.get("/", headers={"host": "192.168.3.4"}).status_code == 403
