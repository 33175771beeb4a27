"""The server of ``edgeattn phone`` against one that takes more than its share: connections, bodies, and the end."""

import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from phone_client import Client, Server, offered, serving

from edgeattn.phone import serving as serving_module
from edgeattn.phone.messages import LARGEST_BYTES, Join


@pytest.fixture(scope="module")
def server(phone_runtimes: Path, made_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(made_bundle, "--out", tmp_path_factory.mktemp("phone") / "r.json") as running:
        yield running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 as addresses of its own")
def test_one_address_keeps_no_other_out(server: Server, made_bundle: Path) -> None:
    """900 idle connections of one address: the server closes what is over its bound, and others get theirs."""
    address = urlsplit(server.url)
    idle = []
    for _ in range(900):
        with suppress(OSError):
            idle.append(socket.create_connection((address.hostname, address.port), source_address=("127.0.0.9", 0)))
    client = Client(server.url, offered(made_bundle))
    client.join()
    assert client.send("result", client.result(next(iter(client.plan.tasks))))[0] == 200
    is_open = 0
    for connection in idle:
        connection.setblocking(False)
        try:
            is_open += connection.recv(1) != b""
        except BlockingIOError:
            is_open += 1
        except OSError:
            pass
        connection.close()
    assert 200 < is_open <= serving_module.CONNECTIONS_OF_ONE


def test_a_body_that_is_refused_is_read_no_further(server: Server, made_bundle: Path) -> None:
    client = Client(server.url, offered(made_bundle))
    address = urlsplit(server.url)
    head = f"POST {client.root}join HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        body = "x" * (LARGEST_BYTES[Join] + 1)
        connection.sendall(f"{head}Content-Length: 900000000\r\n\r\n{body}".encode())
        answer = b""
        while received := connection.recv(65536):  # until the server closes it
            answer += received
    assert b" 413 " in answer.partition(b"\r\n")[0]
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("sent", ["{", "", "{" * 5000])
def test_ctrl_c_while_a_body_arrives(sent: str, phone_runtimes: Path, made_bundle: Path, tmp_path: Path) -> None:
    with serving(made_bundle, "--out", tmp_path / "r.json") as server:
        client = Client(server.url, offered(made_bundle))
        client.join()
        address = urlsplit(server.url)
        head = f"POST {client.root}phones/{client.session}/result HTTP/1.1\r\nHost: {address.netloc}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 50000\r\n\r\n"
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall((head + sent).encode())
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            _, err = server.process.communicate(timeout=60)
    assert server.process.returncode == 1, err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("edgeattn:")]) <= 1
