"""What each server hands over, and gets back instead: gevent's own, and gunicorn."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fallback_transport.runtime import hurry, released, take_socket


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def pywsgi_environ(sock: socket.socket, upgrade: bool) -> dict[str, Any]:
    """What pywsgi gives: its input around a buffered reader, and to an upgrade the reader alone."""
    reader = SimpleNamespace(raw=SimpleNamespace(_sock=sock))
    given = reader if upgrade else SimpleNamespace(rfile=reader)
    return {"SERVER_SOFTWARE": "gevent/26.9 Python/3.11", "wsgi.input": given}


@pytest.mark.parametrize("upgrade", [False, True])
def test_the_socket_behind_pywsgi(sock: socket.socket, upgrade: bool) -> None:
    assert take_socket("gevent", pywsgi_environ(sock, upgrade)) is sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("mode", ["gevent", "threading"])
def test_answers_to_polls_do_not_wait_on_pywsgi(sock: socket.socket, mode: str) -> None:
    hurry(mode, pywsgi_environ(sock, upgrade=False))
    assert bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == (mode == "gevent")


def test_what_is_not_pywsgis_or_not_tcp_is_left_alone() -> None:
    """Gunicorn's worker for gevent has a server of its own, and pywsgi may listen on a path."""
    hurry("gevent", {"SERVER_SOFTWARE": "gunicorn/25.0", "wsgi.input": None})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hurry("gevent", pywsgi_environ(ours, upgrade=False))


@pytest.mark.parametrize("name", ["gunicorn.socket", "werkzeug.socket"])
def test_a_servers_own_answer_fails_and_nothing_is_raised(name: str) -> None:
    """Gunicorn knows a StopIteration, but to Sentry it is an error of each WebSocket.

    socketio.WSGIApp adds eventlet's name to gunicorn's.
    """
    answered: list[str] = []
    ours, theirs = socket.socketpair()
    environ = {name: ours, "wsgi.input": None}
    if name == "gunicorn.socket":
        environ["eventlet.input"] = object()
    with ours, theirs:
        assert released(environ, lambda status, headers: answered.append(status)) == []
        assert answered == ["101 Switching Protocols"]
        with pytest.raises(BrokenPipeError):
            ours.sendall(b"HTTP/1.1 101 Switching Protocols")
        assert theirs.recv(1) == b""
