"""A floor, sockets that give back what they read, a task for each: ``… MODE PORT``."""

from __future__ import annotations

import socket
import sys
import threading

from tests.bench.subjects import patch


def echo(connection: socket.socket) -> None:
    """Give back, until it ends."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"first")
    try:
        while data := connection.recv(65536):
            connection.sendall(data)
    except OSError:
        pass
    finally:
        connection.close()


if __name__ == "__main__":
    mode, port = sys.argv[1], int(sys.argv[2])
    # Threads are the mode's own tasks then.
    patch(mode)
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=echo, args=(accepted,), daemon=True).start()
