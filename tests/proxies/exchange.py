"""One request and its answer, with the faults that strike it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from .faults import (
    AcceptClose,
    AcceptSilent,
    Blackhole,
    Buffer,
    Cut,
    Delay,
    Duplicate,
    Gateway,
    LoginPage,
    LostReply,
    Refuse,
    Reset,
    Strip,
    Truncate,
)
from .http_messages import (
    Answer,
    Request,
    body,
    plain_answer,
    switching_protocols,
    whole_body,
    without_chunks,
)
from .journal import Journal, RequestRecord
from .outlet import Outlet
from .rules import Plan
from .tunnel import Tunnel
from .upstream import Upstream, read_answer
from .wire import End, EndedEarly, Wire

_LOGIN_PAGE = (
    "<!doctype html><title>Welcome to the network</title>"
    '<form method="post"><input name="user"><button>Log in</button></form>'
)


class Exchange:
    """One request and its answer.

    The order of the faults is that of the exchange: those that keep it from
    the upstream, those on the way up, those on the answer.

    Args:
        client: the client's connection, its body not yet read.
        paired: returns the upstream connection that goes with it.
    """

    def __init__(
        self,
        client: Wire,
        paired: Callable[[], Awaitable[Wire]],
        request: Request,
        plan: Plan,
        record: RequestRecord,
        journal: Journal,
        upstream: Upstream,
    ) -> None:
        #: Whether the answer has been passed on, or never will be.
        self.over = False
        self._client = client
        self._paired = paired
        self._request = request
        self._plan = plan
        self._record = record
        self._journal = journal
        self._upstream = upstream
        #: The connections that carry this exchange; they share the client's fate.
        self._wires: list[Wire] = []
        #: Those of them that are not paired with the client, and end with the exchange.
        self._copies: list[Wire] = []
        self._upload: asyncio.Task[None] | None = None
        self._uploaded = False
        self._delivered = asyncio.Event()

    def client_ended(self, end: End) -> None:
        """Tell the upstream, as it would be told without a proxy."""
        for wire in self._wires:
            if end is End.RST:
                wire.reset()
            elif self._uploaded and not self._client.unread:
                wire.finish()

    async def run(self) -> bool:
        """Carry the exchange to its end; return whether the client may go on.

        Raises:
            EndedEarly: a side finished in the middle of a message.
            ConnectionError: a side is gone.
        """
        timer = None
        cut = self._plan.get(Cut)
        if cut is not None and cut.after is not None:
            timer = asyncio.get_running_loop().call_later(cut.after, self._cut)
        try:
            return await self._run()
        finally:
            if timer is not None:
                timer.cancel()
            if self._upload is not None:
                self._upload.cancel()
            for wire in self._copies:
                wire.close()
            self._delivered.set()

    async def _run(self) -> bool:
        client, plan, request = self._client, self._plan, self._request
        if plan.get(Blackhole):
            self._struck(Blackhole.name)
            await client.wait_until_gone()
            return False
        if reset := plan.get(Reset):
            await asyncio.sleep(reset.after)
            self._struck(Reset.name)
            client.reset()
            return False
        made = self._own_answer()
        if made is not None:
            await self._read_ahead()
            self._answer(*made)
            return True
        if request.is_websocket and self._accepted_here():
            self._journal.answered(self._record, 101)
            client.write(switching_protocols(request))
            await self._join(None)
            return False
        wire = await self._send()
        return wire is not None and await self._pass_answer(wire)

    # What the proxy answers by itself.

    def _own_answer(self) -> tuple[int, bytes] | None:
        plan = self._plan
        if refuse := plan.get(Refuse):
            self._struck(Refuse.name)
            return refuse.status, plain_answer(refuse.status, "refused by the proxy")
        if plan.get(LoginPage):
            self._struck(LoginPage.name)
            return 200, plain_answer(200, _LOGIN_PAGE, "text/html; charset=utf-8")
        gateway = plan.get(Gateway)
        return self._gateway_answer(gateway) if gateway and not gateway.after else None

    def _gateway_answer(self, gateway: Gateway) -> tuple[int, bytes]:
        self._struck(Gateway.name)
        after = gateway.retry_after
        headers = [("Retry-After", str(after))] if after is not None else []
        text = "the proxy has no answer"
        return gateway.status, plain_answer(gateway.status, text, "text/plain", *headers)

    def _answer(self, status: int, raw: bytes) -> None:
        self._journal.answered(self._record, status)
        if self._request.method == "HEAD":
            raw = raw[: raw.index(b"\r\n\r\n") + 4]
        self._client.write(raw)
        self.over = True

    def _accepted_here(self) -> bool:
        faults = (self._plan.get(AcceptSilent), self._plan.get(AcceptClose))
        return any(fault is not None and fault.by == "proxy" for fault in faults)

    # The way up.

    async def _send(self) -> Wire | None:
        """Send the request on; return the connection whose answer counts. None: the client left."""
        delay, duplicate = self._plan.get(Delay), self._plan.get(Duplicate)
        if duplicate is None and (delay is None or not delay.up):
            return await self._send_as_it_comes()
        content = await self._read_ahead()
        self._uploaded = True
        if delay is not None and delay.up:
            self._struck(Delay.name)
            await asyncio.sleep(delay.up)
            if self._client.ended_here:
                return None  # killed, and what was under way with it
            if self._client.ended is not None:
                # A packet under way arrives, whoever sent it is gone or not.
                if not self._request.is_websocket:
                    self._upstream.deliver_stray(self._request, content)
                return None
        if duplicate is not None:
            self._struck(Duplicate.name)
            return await self._send_twice(duplicate, content)
        wire = await self._connected()
        wire.write(self._head() + content)
        return wire

    async def _send_as_it_comes(self) -> Wire:
        wire = await self._connected()
        framing = self._request.framing
        if not framing.chunked and framing.length <= self._client.unread:
            await self._stream_up(wire)
        else:
            # The upstream may answer before it has the whole body, or wait
            # with it until it has sent a 100.
            self._upload = asyncio.ensure_future(self._stream_up(wire))
        return wire

    async def _stream_up(self, wire: Wire) -> None:
        outlet = Outlet(wire, self._plan, "up", self._cut, self._struck)
        try:
            await outlet.write(self._head())
            async for piece in body(self._client, self._request.framing):
                await outlet.write(piece)
        except EndedEarly:
            wire.finish()
        except ConnectionError:
            # The end of the client was passed on when it came; that of the
            # upstream is met by whoever reads the answer.
            return
        self._uploaded = True
        if self._client.ended is not None:
            self.client_ended(self._client.ended)

    async def _send_twice(self, duplicate: Duplicate, content: bytes) -> Wire:
        request, upstream = self._request, self._upstream
        if duplicate.answer == "first":
            wire = await self._send_copy(content)
            after = self._delivered if duplicate.mode == "sequential" else None
            upstream.deliver_stray(request, content, duplicate.gap, after)
            return wire
        if duplicate.mode == "concurrent":
            upstream.discard_answer(await upstream.send_copy(request, content), request)
        else:
            # Whatever became of the first, the second is sent.
            with contextlib.suppress(ConnectionError, EndedEarly):
                await read_answer(await upstream.send_copy(request, content), request)
        await asyncio.sleep(duplicate.gap)
        return await self._send_copy(content)

    async def _send_copy(self, content: bytes) -> Wire:
        wire = await self._upstream.send_copy(self._request, content)
        self._wires.append(wire)
        self._copies.append(wire)
        return wire

    def _head(self) -> bytes:
        if self._request.is_websocket and self._plan.get(Strip):
            self._struck(Strip.name)
            return self._request.without_upgrade()
        return self._request.head.raw

    async def _read_ahead(self) -> bytes:
        if self._request.awaits_continue:
            self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await whole_body(self._client, self._request.framing)

    async def _connected(self) -> Wire:
        wire = await self._paired()
        self._wires.append(wire)
        if self._client.ended is End.RST:
            raise ConnectionResetError("the client left before the upstream was reached")
        return wire

    # The way down.

    async def _pass_answer(self, wire: Wire) -> bool:
        answer = None
        while answer is None or (answer.status < 200 and answer.status != 101):
            if answer is not None:
                self._client.write(answer.head.raw)
            raw = await self._answer_head(wire)
            if raw is None and self.over:
                # The rest of a body cannot be told from the next request.
                return self._uploaded
            if raw is None and not wire.unread:
                self._client.close()
                return False
            answer = Answer.parse(raw, self._request) if raw is not None else None
            if answer is None:
                self._client.write(raw or b"")
                await self._join(wire)
                return False
        delay = self._plan.get(Delay)
        if delay is not None and delay.down:
            self._struck(Delay.name)
            await asyncio.sleep(delay.down)
        if answer.status == 101:
            self._journal.answered(self._record, 101)
            self._client.write(answer.head.raw)
            await self._join(wire)
            return False
        goes_on = await self._deliver(wire, answer)
        self.over = True
        if self._upload is not None:
            if wire.ended is not None:
                self._client.end(wire.ended)
            await self._upload
        if answer.framing.until_end:
            self._client.close()
            return False
        return goes_on

    async def _answer_head(self, wire: Wire) -> bytes | None:
        """Read an answer's head; None if there is none, or if the proxy gave its own meanwhile."""
        gateway = self._plan.get(Gateway)
        if gateway is None:
            return await wire.read_head()
        reading = asyncio.ensure_future(wire.read_head())
        await asyncio.wait({reading}, timeout=gateway.after)
        if reading.done():
            return reading.result()
        reading.cancel()
        wire.close()
        self._answer(*self._gateway_answer(gateway))
        return None

    async def _deliver(self, wire: Wire, answer: Answer) -> bool:
        """Pass on an answer; return whether the client's connection survives it."""
        client, plan = self._client, self._plan
        if lost := plan.get(LostReply):
            await whole_body(wire, answer.framing)
            self._struck(LostReply.name)
            if lost.how == "hang":
                await client.wait_until_gone()
            else:
                client.end(End(lost.how))
            return False
        outlet = Outlet(client, plan, "down", self._cut, self._struck)
        truncate = plan.get(Truncate)
        if truncate is not None:
            return await self._deliver_truncated(outlet, wire, answer, truncate)
        if plan.get(Buffer):
            content = await whole_body(wire, answer.framing)
            self._struck(Buffer.name)
            self._journal.answered(self._record, answer.status)
            client.write(answer.head.raw)
            await outlet.write(content)
            return True
        self._journal.answered(self._record, answer.status)
        client.write(answer.head.raw)
        async for piece in body(wire, answer.framing):
            await outlet.write(piece)
        return True

    async def _deliver_truncated(
        self, outlet: Outlet, wire: Wire, answer: Answer, truncate: Truncate
    ) -> bool:
        content = await whole_body(wire, answer.framing)
        if not truncate.visible and answer.framing.chunked:
            content = without_chunks(content)
        kept = content[: int(len(content) * truncate.fraction)]
        visible = truncate.visible and bool(content)
        self._journal.answered(self._record, answer.status)
        if content:
            self._struck(Truncate.name)
        rewritten = content and not truncate.visible
        head = answer.with_length(len(kept)) if rewritten else answer.head.raw
        self._client.write(head)
        await outlet.write(kept)
        if visible:
            self._client.end(End(truncate.how))
        return not visible

    async def _join(self, wire: Wire | None) -> None:
        """Carry bytes both ways until the end; they are no business of HTTP any more."""
        self._client.when_ended = None
        self.over = True
        if wire is not None:
            wire.when_ended = None
        self._journal.live_websockets += 1
        try:
            await Tunnel(self._client, wire, self._plan, self._cut, self._struck).run()
        finally:
            self._journal.live_websockets -= 1

    def _cut(self) -> None:
        cut = self._plan.get(Cut)
        assert cut is not None
        self._struck(Cut.name)
        self._client.end(End(cut.how))
        for wire in self._wires:
            wire.end(End(cut.how))

    def _struck(self, name: str) -> None:
        self._journal.struck(name, self._record)
