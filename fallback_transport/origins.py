"""Origins: whose page a request comes from, and what that page may do.

A browser states it with each request of a script that may matter (the Fetch standard, "origin
header"); it cannot be forged by the page.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from werkzeug.sansio.utils import host_is_trusted

logger = logging.getLogger("fallback_transport.gateway")

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: As a browser writes it: RFC 6454, section 6.2.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]*))?")

#: What a client heeds, beside those that every page may read.
_READABLE = ("Access-Control-Expose-Headers", "Retry-After")


def valid_origin(text: str) -> bool:
    """Whether some page may state this as its origin."""
    # Android's web views state the second one for a page of the application's own.
    if text in ("null", "file://"):
        return True
    parts = _ORIGIN.fullmatch(text)
    return parts is not None and parts[3] != str(_DEFAULT_PORTS.get(parts[1]))


class Origins:
    """The origins that are allowed.

    Args:
        allowed: those beside the server's own; "*" for all.
        hosts: gives, of a request, the hosts that are the server's, with a dot in front their
            subdomains, too; None where every host is that a request was sent to.
    """

    def __init__(
        self,
        allowed: tuple[str, ...] = (),
        hosts: Callable[[dict[str, Any]], Collection[str] | None] = lambda environ: None,
    ) -> None:
        self._allowed = allowed
        self._hosts = hosts

    def of(self, environ: dict[str, Any], *, told: bool = True) -> str | None:
        """The request's origin, "" if it states none; None if it is not allowed.

        Which is worth a line in the log, where it is `told`.
        """
        origin: str = environ.get("HTTP_ORIGIN", "")
        allowed = self._allowed
        if not origin or "*" in allowed or origin in allowed or self._same(origin, environ):
            return origin
        if told:
            # With what it was compared with: a proxy may have changed that.
            compared = f"{environ.get('wsgi.url_scheme')}://{environ.get('HTTP_HOST', '')}"
            proxied = self._same(origin, _sent_to(environ)[1])
            cure = (
                "by X-Forwarded-Host and -Proto it would be: see ProxyFix"
                if proxied
                else "where it may, the option origins names it, or a proxy is to pass on its Host"
            )
            logger.warning("origin %.80r is not allowed to ask %.80r; %s", origin, compared, cure)
        return None

    def trusts(self, environ: dict[str, Any]) -> bool:
        """Whether the request's page may act for the browser's user: it is known whose it is.

        Not by "*", and "null" is every sandbox's. Browsers that know of origins state one, but
        where a page asks for what is its own; there they may say that instead.
        """
        origin: str = environ.get("HTTP_ORIGIN", "")
        if not origin:
            return environ.get("HTTP_SEC_FETCH_SITE") == "same-origin"
        named = origin in self._allowed and origin not in ("*", "null")
        return named or self._same(origin, environ)

    def trusts_unstated(self, environ: dict[str, Any]) -> bool:
        """The same as `trusts`, where what states no origin may be a program with a cookie.

        Nor does a script element of another site state one, which by JSONP reads what a stock
        client is answered; or an image. That its browser says.
        """
        if environ.get("HTTP_ORIGIN"):
            return any(map(self.trusts, _sent_to(environ)))
        return environ.get("HTTP_SEC_FETCH_SITE", "none") in ("none", "same-origin")

    def admit_stock(self, origin: str | None, environ: dict[str, Any]) -> bool:
        """Whether a stock client is let in, as python-engineio asks; its lists have no own page."""
        # It logs those that are not allowed itself.
        return any(self.of(each, told=False) is not None for each in _sent_to(environ))

    def readable(self, environ: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        """The headers that let a page of another origin read the answer to its poll.

        Nobody has to ask before with a preflight: what a page sends is a simple request.
        """
        origin: str = environ.get("HTTP_ORIGIN", "")
        if not origin or self._same(origin, environ):
            return ()
        if not self.trusts(environ):
            # It brings no credentials that count. A page that is refused may read that.
            return ("Access-Control-Allow-Origin", "*"), _READABLE
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            _READABLE,
        )

    def _same(self, origin: str, environ: dict[str, Any]) -> bool:
        """Whether `origin` is the host that the request was sent to, and not less secure."""
        host = environ.get("HTTP_HOST", "")
        hosts = self._hosts(environ)
        # Whoever owns a name can let it lead here, and the pages that are got by it as well.
        if hosts and not _is_trusted(host, (hosts,) if isinstance(hosts, str) else tuple(hosts)):
            return False
        # Firefox, of the last words of a page whose policy is to state no referrer. Of a sandbox,
        # which is nobody's page, no browser says so.
        if origin == "null" and environ.get("HTTP_SEC_FETCH_SITE") == "same-origin":
            return True
        return _is_host(origin, host, environ.get("wsgi.url_scheme") == "https")


def _sent_to(environ: dict[str, Any]) -> list[dict[str, Any]]:
    """A request as it came, and as a proxy says that it was, of which no ProxyFix was told.

    To python-engineio both hosts are a page's own. No page of another origin can state them.
    """
    host = environ.get("HTTP_X_FORWARDED_HOST", environ.get("HTTP_HOST", ""))
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", environ.get("wsgi.url_scheme", ""))
    forwarded = {"HTTP_HOST": host.split(",")[0].strip()}
    return [environ, {**environ, **forwarded, "wsgi.url_scheme": scheme.split(",")[0].strip()}]


@lru_cache(maxsize=64)
def _is_trusted(host: str, hosts: tuple[str, ...]) -> bool:
    # Cached for the same reason as below.
    try:
        return host_is_trusted(host, hosts)
    except UnicodeError:
        # Of a name with an empty label, before Werkzeug 3.1.7.
        return False


@lru_cache(maxsize=64)
def _is_host(origin: str, host: str, secure: bool) -> bool:
    # Asked twice for each poll, and nearly always for the same: a look at two URLs is 5 us.
    try:
        page = urlsplit(origin)
        page_port = page.port or _DEFAULT_PORTS.get(page.scheme)
        place = urlsplit("//" + host)
        # A proxy that ends TLS passes on the host without its scheme's port: 443, not our 80.
        port = place.port or _DEFAULT_PORTS.get(page.scheme)
    except ValueError:
        return False
    known = page.scheme in _DEFAULT_PORTS and page.hostname is not None
    same_host = known and page.hostname == place.hostname
    return (page.scheme == "https" or not secure) and same_host and page_port == port
