"""For the tests of an application: a client that needs no socket, and sets the clock.

    from fallback_transport.testing import TestClient

    def test_a_message_survives_a_reconnect():
        with TestClient(transport) as client:
            client.cut()
            client.emit("chat", "hello")
            client.reconnect()
            assert client.received("chat") == ["hello"]

All that a browser and a server do is done: the protocol's own client machine
talks to the application's WSGI callable, and python-socketio calls the
handlers. Only the network and the clock are others: nothing waits, no thread
is started, and whatever the async mode, everything has the same order in each
run.
"""

try:
    import greenlet  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "fallback_transport.testing needs greenlet: pip install greenlet (eventlet and gevent "
        "bring it along)"
    ) from error

from .client import ConnectionFailed, TestClient

__all__ = ["ConnectionFailed", "TestClient"]
