"""The control port: rules in, statistics out; JSON over HTTP/1.1, a connection per request.

* ``GET /statistics``: the counters (``journal.Statistics``).
* ``GET /requests?since=T``: the requests (``journal.RequestRecord``) after monotonic time T.
* ``GET /rules``, ``PUT /rules`` with a list of rules: those in force; replaces all of them.
* ``POST /kill`` with ``{"how": "rst"}`` (or "fin"): ends every live connection; how many it were.

What cannot be done is answered 4xx, ``{"error": "…"}``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from .faults import RuleError
from .http_messages import Head
from .journal import RequestRecord, Statistics
from .rules import RuleBook, as_rule
from .wire import End

_BODY_LIMIT = 1024 * 1024


class Controlled(Protocol):
    """What the control port can ask of the proxy."""

    rulebook: RuleBook

    def rules_changed(self) -> None:
        """Act on rules that concern the door."""

    def kill(self, how: End) -> int:
        """End every live connection; return how many clients had one."""

    def statistics(self) -> Statistics:
        """Return the counters."""

    def requests(self, since: float) -> list[RequestRecord]:
        """Return the requests that came after this time."""


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Control:
    """Serves the control port.

    Args:
        proxy: what is controlled.
    """

    def __init__(self, proxy: Controlled) -> None:
        self._proxy = proxy
        self._doors: dict[tuple[str, str], Callable[[str, object], object]] = {
            ("GET", "/statistics"): self._statistics,
            ("GET", "/requests"): self._requests,
            ("GET", "/rules"): self._rules,
            ("PUT", "/rules"): self._replace_rules,
            ("POST", "/kill"): self._kill,
        }

    async def listen(self, port: int) -> int:
        """Serve on a loopback port (0: a free one), and return it."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        bound: int = server.sockets[0].getsockname()[1]
        self._server = server  # which asyncio would otherwise let go
        return bound

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            status, document = await self._answer(reader)
            content = json.dumps(document).encode()
            writer.write(
                b"HTTP/1.1 %d Control\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(content))
            )
            writer.write(content)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has left, or speaks no HTTP
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, object]:
        head = Head.parse(await reader.readuntil(b"\r\n\r\n"))
        method, _, rest = head.line.partition(" ")
        url = urlsplit(rest.partition(" ")[0])
        try:
            door = self._doors.get((method, url.path))
            if door is None:
                raise _Refused(404, f"no {method} {url.path}")
            framing = head.framing()
            length = framing.length if framing else 0
            if length > _BODY_LIMIT:
                raise _Refused(413, "too large")
            raw = await reader.readexactly(length)
            # A web page cannot send this type to another origin unasked.
            if raw and head.header("content-type") != "application/json":
                raise _Refused(415, "the body must be application/json")
            return 200, door(url.query, json.loads(raw) if raw else None)
        except _Refused as refused:
            return refused.status, {"error": str(refused)}
        except ValueError as error:  # of JSON, of a number, or of a rule
            return 400, {"error": str(error)}

    def _statistics(self, query: str, document: object) -> object:
        return asdict(self._proxy.statistics())

    def _requests(self, query: str, document: object) -> object:
        since = float(parse_qs(query).get("since", ["0"])[0])
        return [asdict(record) for record in self._proxy.requests(since)]

    def _rules(self, query: str, document: object) -> object:
        return [rule.to_json() for rule in self._proxy.rulebook.rules]

    def _replace_rules(self, query: str, document: object) -> object:
        if not isinstance(document, list):
            raise RuleError("rules are a list")
        self._proxy.rulebook.replace([as_rule(given) for given in document])
        self._proxy.rules_changed()
        return self._rules(query, None)

    def _kill(self, query: str, document: object) -> object:
        how = document.get("how", "rst") if isinstance(document, dict) else "rst"
        return {"killed": self._proxy.kill(End(how))}
