"""The fault proxy: ``python -m tests.proxies.fault_proxy --upstream PORT``.

Forwards HTTP/1.1 and WebSocket between a loopback port and an upstream one,
with the faults that its rules ask for. Prints one line of JSON with its ports
when it is ready; ``control.py`` describes the control port. Without rules it
neither loses nor reorders a byte, and passes on how connections end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence

from .control import Control
from .conversation import Conversation
from .faults import RuleError
from .journal import Journal, RequestRecord, Statistics
from .rules import Rule, RuleBook, as_rule
from .upstream import Upstream
from .wire import End

_BACKLOG = 1024
_PARENT_CHECK = 0.25


class Proxy:
    """The door, and every conversation behind it.

    Args:
        upstream_port: where requests go.
        seed: of the dice.
        rules: in force from the start.
        host: the address of the door.
    """

    def __init__(
        self, upstream_port: int, seed: int, rules: Iterable[Rule] = (), host: str = "127.0.0.1"
    ) -> None:
        self._host = host
        self.rulebook = RuleBook(seed, rules)
        self._journal = Journal()
        self._upstream = Upstream(upstream_port, self._journal)
        self._conversations: dict[Conversation, asyncio.Task[None]] = {}
        self._past_up = self._past_down = 0
        self._accepting = False

    def listen(self, port: int) -> int:
        """Listen on a loopback port (0: a free one), and return it."""
        self._loop = asyncio.get_running_loop()
        self._door = self._bind(port)
        self._door.listen(_BACKLOG)
        self._listening = True
        self.rules_changed()
        return self._port

    def _bind(self, port: int) -> socket.socket:
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((self._host, port))
        door.setblocking(False)
        self._port: int = door.getsockname()[1]
        return door

    def rules_changed(self) -> None:
        """Open or shut the door, as the rules want it."""
        pause = self.rulebook.pause
        listening = pause is None or pause.how == "queue"
        if pause is not None:
            self._journal.struck(pause.name)
        if self._accepting:
            self._loop.remove_reader(self._door)
            self._accepting = False
        if listening and not self._listening:
            self._door.listen(_BACKLOG)
        elif self._listening and not listening:
            # A port that is bound, and not listened on, refuses and stays ours.
            self._door.close()
            self._door = self._bind(self._port)
        self._listening = listening
        if pause is None:
            self._loop.add_reader(self._door, self._accept)
            self._accepting = True

    def kill(self, how: End) -> int:
        """End every live connection, on both sides, now; return how many clients had one."""
        clients = [talk.client for talk in self._conversations if talk.client.made]
        for wire in [*clients, *self._upstream.live]:
            if how is End.RST:
                wire.abort()
            else:
                wire.close()
        return len(clients)

    def statistics(self) -> Statistics:
        """Return the counters."""
        journal, clients = self._journal, [talk.client for talk in self._conversations]
        return Statistics(
            at=time.monotonic(),
            seed=self.rulebook.seed,
            connections=journal.connections,
            live=sum(not client.lost for client in clients),
            live_upstream=len(self._upstream.live),
            live_websockets=journal.live_websockets,
            websockets=journal.websockets,
            websockets_accepted=journal.websockets_accepted,
            requests=dict(journal.requests),
            faults=dict(journal.faults),
            rules=self.rulebook.tally(),
            bytes_up=self._past_up + sum(client.received for client in clients),
            bytes_down=self._past_down + sum(client.sent for client in clients),
            upstream_refused=journal.upstream_refused,
        )

    def requests(self, since: float) -> list[RequestRecord]:
        """Return the requests that came after this time."""
        return [record for record in self._journal.log if record.at > since]

    def _accept(self) -> None:
        # As many as are there, but let others have their turn.
        for _ in range(64):
            try:
                peer, _address = self._door.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            peer.setblocking(False)
            # asyncio does it only for the connections that it opens or accepts itself.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._journal.connections += 1
            conversation = Conversation(
                self._journal.connections, self.rulebook, self._journal, self._upstream
            )
            self._conversations[conversation] = asyncio.ensure_future(
                self._converse(conversation, peer)
            )

    async def _converse(self, conversation: Conversation, peer: socket.socket) -> None:
        client = conversation.client
        try:
            await self._loop.connect_accepted_socket(lambda: client, peer)
            await conversation.run()
            await client.until_lost()
        finally:
            del self._conversations[conversation]
            self._past_up += client.received
            self._past_down += client.sent


async def end_with_parent(parent: int) -> None:
    """Return when this is no longer the parent of this process."""
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_CHECK)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fault_proxy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--upstream", type=int, required=True, metavar="PORT")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS")
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="default: a free one")
    parser.add_argument(
        "--control", type=int, default=0, metavar="PORT", help="default: a free one"
    )
    parser.add_argument("--rules", default="[]", metavar="JSON", help="a list, see rules.py")
    parser.add_argument("--seed", type=int, help="of every die; default: random, and printed")
    parser.add_argument("--parent-death", action="store_true", help="end when the parent ends")
    arguments = parser.parse_args(given)
    try:
        document = json.loads(arguments.rules)
        if not isinstance(document, list):
            raise RuleError("rules are a list")
        arguments.rules = [as_rule(rule) for rule in document]
    except ValueError as error:
        parser.error(f"--rules: {error}")
    return arguments


async def serve(arguments: argparse.Namespace, parent: int) -> None:
    """Run the proxy until it is ended, or its parent is."""
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().getrandbits(32)
    proxy = Proxy(arguments.upstream, seed, arguments.rules, arguments.host)
    control = Control(proxy)
    ready = {
        "port": proxy.listen(arguments.listen),
        "control": await control.listen(arguments.control),
        "seed": seed,
        "pid": os.getpid(),
    }
    print(json.dumps(ready), flush=True)
    if arguments.parent_death:
        await end_with_parent(parent)
    else:
        await asyncio.Event().wait()


def main(given: Sequence[str] | None = None) -> None:
    """Run the command line."""
    # Asked for only after it has been told that we are ready, it could be gone,
    # and we would wait for the end of whoever adopted us. If it is gone now
    # already, the line that says so breaks on its closed pipe.
    parent = os.getppid()
    arguments = _arguments(given)
    # Ctrl-C in a terminal reaches parent and child; only one should complain.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(serve(arguments, parent))
    except OSError as error:
        sys.exit(f"fault_proxy: {error}")


if __name__ == "__main__":
    main()
