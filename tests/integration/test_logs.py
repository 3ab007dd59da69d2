"""What the log says of sessions: one line for each that is over, and never what opens one."""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from fallback_transport.protocol import codec
from fallback_transport.protocol.envelope import Envelope, Hello
from tests.client.fixtures import MODE_PARAMS
from tests.client.raw import RawPolling, event, new_hello, post, raw_websocket
from tests.client.session import ClientSession
from tests.client.waiting import eventually

from .raw import Wire, request
from .served import MODES, OVER_WSGI, Served

SERVERS = (*MODES, OVER_WSGI)

END = re.compile(
    r"^(?P<level>\w+) fallback_transport\.session\.end: session (?P<id>\S+) ended after "
    r"(?P<seconds>[\d.]+) s: (?P<code>\d+) (?P<reason>'.*'); websocket (?P<websocket>[\d.]+) s, "
    r"polling (?P<polling>[\d.]+) s, (?P<connections>\d+) connections, (?P<switches>\d+) "
    r"switches; (?P<up>\d+) messages up, (?P<down>\d+) down, (?P<replays>\d+) replays, "
    r"(?P<duplicates>\d+) duplicates, (?P<unconfirmed>\d+) messages unconfirmed$",
    re.MULTILINE,
)


@pytest.fixture(params=MODE_PARAMS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with Served(request.param, module="tests.integration.logged_app") as served:
        yield served


def test_a_sessions_end_is_one_line_and_no_secret_is_in_any(server: Served) -> None:
    token = secrets.token_hex(8)
    nonces = [secrets.token_hex(16) for _ in range(6)]
    keys: list[str] = []
    ids: list[str] = []

    # One that goes through both transports, and whose handler raises.
    with ClientSession(server.port, auth={"token": token}, nonce=nonces[0]) as client:
        client.open("websocket")
        assert client.request("echo", 1) == 1
        client.cut()
        client.open("polling")
        client.switch("websocket")
        ids.append(client.id)
        keys.append(str(client.machine.key))
        client.close(4001, "good\nbye")
        client.wait_closed()

    # The application refuses it, or fails.
    for nonce, auth in zip(
        nonces[1:3], ({"refuse": [4100, "no"], "t": token}, {"crash": token}), strict=True
    ):
        with ClientSession(server.port, auth=auth, nonce=nonce) as client:
            client.open("polling")
            client.wait_closed()
            ids.append(client.id)
            keys.append(str(client.machine.key))

    # Rules are broken, with all that is secret in the request.
    polling = RawPolling.open(server.port, {"token": token}, hello=new_hello(nonce=nonces[3]))
    keys.append(polling.key)
    ids.append(polling.id)
    gap = polling.sending([event("echo", 1)])._replace(
        envelope=Envelope(seq=9, messages=(event("echo", 2),), commit=1),
    )
    broken = [
        codec.encode_body(gap),
        codec.encode_body(polling.waiting(0.0)).replace(b"a", b"a-", 1),
        codec.encode_body(polling.waiting(0.0))[:-1],
        codec.encode_body(new_hello({"token": token}, nonce=nonces[4])).replace(b":1,", b":2,", 1),
        codec.encode_body(new_hello({"token": token}, nonce=nonces[3])),
        codec.encode_body(Hello(7, id=polling.id, key=nonces[5])),
        codec.encode_body(Hello(7, id="not.ours", key=keys[0])),
        codec.encode_body(Hello(7, id=polling.id, key=polling.key)).replace(b'{"h', b"{h", 1),
    ]
    statuses = [post(server.port, body).status for body in broken]
    assert statuses.count(200) <= 2, statuses
    with raw_websocket(server.port) as socket:
        socket.connection.send(broken[3][:-2].decode())
        socket.ended()
    with raw_websocket(server.port) as socket:
        socket.connection.send("p" + keys[0])
        socket.ended()
    # A mark that is impossible ends the session, which is an offence.
    post(
        server.port, polling.waiting(0.0)._replace(envelope=Envelope(ack=99, received=99, commit=1))
    )

    eventually(lambda: len(END.findall(server.log())) >= len(ids))
    log = server.log()
    ends = {found["id"]: found for found in END.finditer(log)}
    assert len(ends) == len(END.findall(log)), "one line each"
    assert set(ids) <= set(ends)
    first = ends[ids[0]]
    assert first["level"] == "INFO"
    assert (first["code"], first["reason"]) == ("4001", r"'good\nbye'")
    assert (first["connections"], first["switches"]) == ("3", "2")
    # CONNECT, the event, and the close; CONNECT's answer and the reply.
    assert (first["up"], first["down"], first["unconfirmed"]) == ("3", "2", "0")
    assert float(first["seconds"]) >= float(first["websocket"]) + float(first["polling"]) - 0.2
    assert ends[ids[1]]["code"] == "4100"
    offence = ends[ids[3]]
    assert (offence["level"], offence["code"]) == ("WARNING", "1002")

    assert "INFO socketio" in log, "else not all was logged"
    assert len(set(keys)) == len(ids)
    for secret in [token, *nonces, *keys]:
        assert secret not in log


def ask(server: Served, path: str) -> None:
    """For a page, whatever comes of it."""
    with Wire(server.port) as connection:
        connection.send(request("GET", path))
        connection.read_rest()


@pytest.mark.parametrize("mode", SERVERS)
def test_a_request_that_fails_is_in_the_log_of_every_server(mode: str) -> None:
    with Served(mode) as server:
        ask(server, "/broken")
        eventually(lambda: "RuntimeError: the view was told to raise" in server.log())
        # Nobody's fault is that one goes in the middle of an answer.
        with Wire(server.port) as connection:
            connection.send(request("GET", "/endless"))
            connection.read(1000)
            connection.reset()
        eventually(lambda: server.get("/state")["endless"] == "over")
        assert server.log().count("Traceback") == 1


@pytest.mark.parametrize("mode", [mode for mode in SERVERS if mode != "threading"])
def test_a_request_that_lets_a_time_out_out_is_in_the_log(mode: str) -> None:
    with Served(mode) as server:
        ask(server, "/late")
        eventually(lambda: "Timeout: 0.01 seconds" in server.log())


def test_what_is_refused_as_http_is_not_quoted_for_it_may_be_secret(server: Served) -> None:
    secret = secrets.token_hex(8)
    requests = (
        # Of a poll whose length is stated too small, the rest; a head that has lost its beginning.
        f"ix.y k{secret} t1 n1 a0",
        f"Cookie: session={secret}",
        f"GET /a b?token={secret} HTTP/1.1",
        f"GET /a {secret}",
    )
    for text in requests:
        with Wire(server.port) as connection:
            connection.send(f"{text}\r\n\r\n".encode())
            connection.read_rest()
    eventually(lambda: server.log().count("refused as HTTP") == len(requests))
    lines = [line for line in server.log().splitlines() if "refused as HTTP" in line]
    assert all(line.endswith(", from 127.0.0.1") for line in lines)
    assert secret not in server.log()


@pytest.mark.parametrize("mode", SERVERS)
def test_a_url_with_https_where_there_is_no_tls_is_told_of(mode: str) -> None:
    with Served(mode) as server:
        context = ssl.create_default_context()
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            pytest.raises((ssl.SSLError, OSError)),
            context.wrap_socket(plain, server_hostname="localhost"),
        ):
            pass
        eventually(lambda: "refused as HTTP: 'TLS, where there is none: " in server.log())


@pytest.mark.parametrize("mode", MODE_PARAMS)
def test_a_log_handler_may_emit(mode: str) -> None:
    """Also to the session that ends, whose lock others wait for."""
    with (
        Served(mode, module="tests.integration.logged_app", to_pages=True) as server,
        ClientSession(server.port).open() as hears,
    ):
        ends = RawPolling.open(server.port)
        impossible = Envelope(ack=99, received=99, commit=1)
        # Nobody waits for its answer, which may be long in coming.
        asking = threading.Thread(
            target=post,
            args=(server.port, ends.waiting(0.0)._replace(envelope=impossible)),
            daemon=True,
        )
        asking.start()
        hears.wait_for(lambda: any(ends.id in line for line in hears.named("line")), 10)
        asking.join()
