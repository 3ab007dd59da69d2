"""The way from this machine to a server: the proxies of the environment, and TLS."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")
_PORTS = {"http": 80, "https": 443}
#: A host in ASCII; of IPv6, too.
_HOST = re.compile(r"[\w.~:%-]+", re.ASCII)
#: What is not quoted in a path, beside letters and digits; what has been quoted is not again.
_UNQUOTED = "/%:@!$&'()*+,;=~"


class Unreachable(Exception):
    """Nobody could be connected to; the text says why."""


class Untrusted(Exception):
    """The server's certificate cannot be verified; the text says why."""


class TunnelRefused(Exception):
    """The proxy does not connect to the server.

    Args:
        status: of its answer to CONNECT.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"CONNECT {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Route:
    """See the module.

    Args:
        url: of the mount; kept as it is sent, and without a slash at its end.
        ca: a file of certificates to trust beside the system's.
        proxies: by the scheme of what is asked for.
    """

    url: str
    ca: str | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = _as_sent(self.url)
        if url is None:
            raise ValueError(f"this is no URL such as https://host/fallback: {_shown(self.url)}")
        object.__setattr__(self, "url", url)

    @classmethod
    def of_environment(cls, url: str, ca: str | None) -> Route:
        """By the proxies that the environment names.

        Raises:
            ValueError: it is no URL of a mount, or names a proxy that is none by HTTP.
        """
        straight = cls(url, ca)
        if proxy_bypass(f"{straight.host}:{straight.port}"):
            return straight
        route = cls(url, ca, getproxies())
        route.proxy()
        route.proxy(tunnel=True)
        return route

    @property
    def page(self) -> SplitResult:
        """The URL in parts."""
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """The server's."""
        assert self.page.hostname is not None, "checked"
        return self.page.hostname

    @property
    def port(self) -> int:
        """The server's."""
        return self.page.port or _PORTS[self.page.scheme]

    @property
    def secure(self) -> bool:
        """Whether it is https."""
        return self.page.scheme == "https"

    @property
    def origin(self) -> str:
        """As a page of that server states it."""
        return f"{self.page.scheme}://{self.page.netloc}"

    def proxy(self, *, tunnel: bool = False) -> SplitResult | None:
        """The proxy that is asked, for requests or for a tunnel.

        Raises:
            ValueError: it is no HTTP proxy.
        """
        # A browser asks the proxy for https for every tunnel, if there is one.
        names = ["https"] if self.secure else ["https", "http"] if tunnel else ["http"]
        named = next((self.proxies[name] for name in names if self.proxies.get(name)), None)
        if named is None:
            return None
        named = named if "//" in named else "//" + named
        with contextlib.suppress(ValueError):
            proxy = urlsplit(named)
            if proxy.scheme in ("", "http") and _netloc(proxy):
                return proxy
        raise ValueError(
            f"only proxies by http are asked here, such as http://host:3128: {_shown(named)}"
        )

    def tls(self, *, own: bool = True) -> ssl.SSLContext:
        """What is trusted; without the given file if not `own`.

        Raises:
            ValueError: that file has no certificates.
        """
        context = ssl.create_default_context()
        if self.ca is not None and own:
            try:
                context.load_verify_locations(self.ca)
            except OSError as error:
                # It does not name the file.
                raise ValueError(f"no certificates in {self.ca}: {error.strerror}") from error
        return context

    def connect(
        self, timeout: float, *, tunnel: bool = False, context: ssl.SSLContext | None = None
    ) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        """A new connection for requests: what stands before their paths, and their further headers.

        Args:
            timeout: seconds for each wait.
            tunnel: whether a proxy is asked for a tunnel even without TLS, as for a WebSocket;
                then the connection's `sock` is the way to the server, without TLS.
            context: instead of `tls()`.

        Raises:
            Unreachable, Untrusted, TunnelRefused: there is none.
        """
        proxy = self.proxy(tunnel=tunnel)
        host, port = (proxy.hostname, proxy.port or 80) if proxy else (self.host, self.port)
        assert host is not None, "checked"
        connection: http.client.HTTPConnection
        if self.secure and not tunnel:
            connection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=context or self.tls()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        before, headers = "", {}
        if proxy is not None:
            if self.secure or tunnel:
                connection.set_tunnel(self.host, self.port, _credentials(proxy))
            else:
                before, headers = self.origin, _credentials(proxy)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise Untrusted(error.verify_message) from error
        except OSError as error:
            connection.close()
            if refused := _TUNNEL_STATUS.match(str(error)):
                raise TunnelRefused(int(refused[1])) from error
            why = _why(error)
            if proxy is not None and not isinstance(error, ssl.SSLError):
                why = f"the proxy gives no connection ({why})"
            raise Unreachable(why) from error
        except http.client.HTTPException as error:
            connection.close()
            raise Unreachable("the proxy's answer is none") from error
        return connection, before, headers

    def issuer(self, timeout: float) -> str | None:
        """Who issued the server's certificate, as this machine sees it."""
        connection, _, _ = self.connect(timeout)
        try:
            certificate: Mapping[str, Any] = getattr(connection.sock, "getpeercert", dict)() or {}
        finally:
            connection.close()
        names = {key: value for each in certificate.get("issuer", ()) for key, value in each}
        return names.get("organizationName") or names.get("commonName")

    def private(self, timeout: float) -> bool:
        """Whether the certificate is only trusted because of the given file."""
        if self.ca is None:
            return False
        try:
            self.connect(timeout, context=self.tls(own=False))[0].close()
        except Untrusted:
            return True
        return False


def _as_sent(url: str) -> str | None:
    """A mount's URL as browsers send it: in ASCII; None if it is none."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        more = parts.query or parts.fragment or parts.username is not None
        if parts.scheme in _PORTS and not more:
            path = quote(parts.path.rstrip("/"), _UNQUOTED)
            return f"{parts.scheme}://{_netloc(parts)}{path}"
    return None


def _netloc(parts: SplitResult) -> str:
    """Host and port, in ASCII.

    Raises:
        ValueError: there can be no such host or port.
    """
    host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    if not _HOST.fullmatch(host):
        raise ValueError(host)
    return (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")


def _shown(url: str) -> str:
    """As it may be printed: without a user's password."""
    # Its scheme may have been forgotten; in a password, there may be slashes.
    return repr(re.sub(r"(?s)^(\w*:?//)?.*@", r"\1***@", url))


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    text = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ssl.SSLError):
        return f"no TLS ({error.reason or 'the connection ended'})"
    return (error.strerror or str(error)).lower()
