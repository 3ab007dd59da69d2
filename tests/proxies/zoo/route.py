"""What a client does with a hop, one request at a time: plain, by the proxy, through TLS."""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urlsplit

from websockets.exceptions import InvalidMessage, InvalidProxyStatus, InvalidStatus, ProxyError
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from .entry import Hop


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Message
    body: bytes


class NoWebSocket(Exception):
    """The handshake failed; the text says how: a status, "no answer", "reset"."""


def request(
    hop: Hop,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 15.0,
) -> Answer:
    """A GET, or a POST of `body`, on a connection of its own.

    Raises:
        OSError, http.client.HTTPException: there was no whole answer.
    """
    page = urlsplit(hop.url)
    proxy = urlsplit(hop.proxy) if hop.proxy else page
    assert proxy.hostname is not None
    connection: http.client.HTTPConnection
    target, own = path, {"Content-Type": "text/plain;charset=UTF-8", **(headers or {})}
    if page.scheme == "https":
        connection = http.client.HTTPSConnection(
            proxy.hostname, proxy.port, timeout=timeout, context=_tls(hop)
        )
        if hop.proxy:
            assert page.hostname is not None
            connection.set_tunnel(page.hostname, page.port, _authorization(hop))
    else:
        connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=timeout)
        if hop.proxy:
            target = hop.url + path
            own.update(_authorization(hop))
    try:
        connection.request("GET" if body is None else "POST", target, body, own)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def websocket(hop: Hop, path: str, timeout: float = 15.0) -> ClientConnection:
    """A WebSocket, by a tunnel if there is a proxy, as browsers do; the caller closes it.

    Raises:
        NoWebSocket: the handshake failed.
    """
    proxy = hop.proxy
    if proxy and hop.credentials:
        proxy = proxy.replace("//", "//" + ":".join(hop.credentials) + "@")
    try:
        opened = connect(
            hop.url.replace("http", "ws", 1) + path,
            subprotocols=[Subprotocol("fallback.v1")],
            additional_headers={},
            compression=None,
            ping_interval=None,
            max_size=None,
            proxy=proxy,
            ssl=_tls(hop) if hop.url.startswith("https") else None,
            open_timeout=timeout,
            close_timeout=2,
        )
    except InvalidStatus as error:
        raise NoWebSocket(str(error.response.status_code)) from error
    except InvalidProxyStatus as error:
        raise NoWebSocket(f"CONNECT {error.response.status_code}") from error
    except TimeoutError as error:
        raise NoWebSocket("no answer") from error
    except (ConnectionError, EOFError, InvalidMessage, ProxyError) as error:
        raise NoWebSocket("reset") from error
    # `websockets` 17 wants it used as a context manager.
    return opened.__enter__()


def _authorization(hop: Hop) -> dict[str, str]:
    if hop.credentials is None:
        return {}
    text = base64.b64encode(":".join(hop.credentials).encode()).decode()
    return {"Proxy-Authorization": f"Basic {text}"}


def _tls(hop: Hop) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if hop.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
