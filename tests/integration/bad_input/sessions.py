"""What is bad only as somebody else's, or at its time."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

from ..outcomes import over_http, over_websocket
from ..raw import SEPARATOR, Closed, Session, WebSocket, connect_packet, hello, poll, request
from .arena import CASES, FRIEND, OWN, Arena, Case, case
from .envelopes import FATAL, GAP, MALFORMED


def resumed(name: str, want: tuple[str, str], act: Callable[[Session, Session], str]) -> None:
    """A hello for one of two sessions, at both doors."""

    def on_websocket(arena: Arena) -> str:
        text = act(arena.session(), arena.session())
        websocket = arena.websocket()
        websocket.text(text)
        return over_websocket(websocket, ask=False)

    def on_polling(arena: Arena) -> str:
        return over_http(poll(arena.port, act(arena.session(), arena.session())))

    CASES.append(Case(f"{name}, on a WebSocket", on_websocket, want[0]))
    CASES.append(Case(f"{name}, polled", on_polling, want[1]))


GONE = "4404 session", "200 4404 session"
resumed("a wrong key", GONE, lambda one, two: one.resume(key="x" * 32))
resumed("a key that is too short", GONE, lambda one, two: one.resume(key=one.key[:-1]))
resumed("someone else's id", GONE, lambda one, two: one.resume(id=two.id))
resumed("an id that is unknown", GONE, lambda one, two: one.resume(id=one.id[:-1]))
resumed("an ack beyond in a resume", FATAL, lambda one, two: one.resume(ack=2, received=2))
resumed("a gap in a resume", GAP, lambda one, two: one.resume("m2", seq=9))
resumed(
    "a nonce with another auth",
    MALFORMED,
    lambda one, two: hello(connect_packet({"other": 1}), head={"nonce": one.nonce}),
)
resumed(
    "another's polling request",
    ("4400", "200 4404 session"),
    lambda one, two: f"i{one.id} k{two.key} t1 n1 c1 a0",
)


@case("a nonce with another origin, polled", "400 4400")
def other_origin(arena: Arena) -> str:
    first = hello()
    assert over_http(poll(arena.port, first, {"Origin": OWN})) == "200"
    return over_http(poll(arena.port, first, {"Origin": FRIEND}))


@case("a nonce with another origin, on a WebSocket", "4400")
def other_origin_websocket(arena: Arena) -> str:
    first = hello()
    assert over_http(poll(arena.port, first, {"Origin": OWN})) == "200"
    websocket = arena.websocket({"Origin": FRIEND})
    websocket.text(first)
    return over_websocket(websocket, ask=False)


def keyless(arena: Arena) -> tuple[Session, WebSocket]:
    """A committed session, and a connection by its nonce, which must prove the key."""
    session = arena.session()
    # What answers has read the commit before it.
    assert over_websocket(session.socket) == "lives"
    websocket = arena.websocket()
    websocket.text(session.hello.replace('"attempt": 1', '"attempt": 2'))
    welcome = json.loads(websocket.next_text())
    assert welcome["id"] == session.id
    assert "key" not in welcome
    return session, websocket


@case("a commit without the key", "4404")
def commit_without_key(arena: Arena) -> str:
    session, websocket = keyless(arena)
    websocket.text("a0 c2")
    assert over_websocket(session.socket) == "lives"
    return over_websocket(websocket, ask=False)


@case("messages and marks without the key", "lives", lines=0)
def messages_without_key(arena: Arena) -> str:
    session, websocket = keyless(arena)
    websocket.text('a9 s2\x1em2["x"]\x1ec[4000,"bye"]')
    assert over_websocket(websocket) == "lives"
    return over_websocket(session.socket)


@case("the carrier's attempt without its key", "lives")
def attempt_without_key(arena: Arena) -> str:
    session = arena.session()
    assert over_websocket(session.socket) == "lives"
    websocket = arena.websocket()
    websocket.text(session.hello)
    assert over_websocket(websocket, ask=False) == "4400"
    return over_websocket(session.socket)


@case("a commit with a wrong key", "4404")
def commit_with_wrong_key(arena: Arena) -> str:
    session, websocket = keyless(arena)
    websocket.text("a0 c2 k" + "x" * 32)
    assert over_websocket(session.socket) == "lives"
    return over_websocket(websocket, ask=False)


@case("a polling commit with a wrong key", "200 4404 session")
def polling_commit_with_wrong_key(arena: Arena) -> str:
    session = arena.session("polling")
    again = poll(arena.port, session.hello)
    assert "key" not in again.head
    return over_http(poll(arena.port, f"i{session.id} k{'x' * 32} t1 n9 c2 a0"))


@case("a commit that is too low", "4409")
def low_commit(arena: Arena) -> str:
    session = arena.session()
    websocket = arena.websocket()
    websocket.text(session.resume())
    websocket.next_text()
    websocket.text("a0 c1")
    assert over_websocket(session.socket) == "lives"
    return over_websocket(websocket, ask=False)


@case("a polling commit that is too low still delivers", "200 4409")
def low_polling_commit(arena: Arena) -> str:
    session = arena.session("polling")
    assert poll(arena.port, session.resume()).status == 200
    assert session.post("a0", attempt=2, commit=2).status == 200
    reply = session.post("a0 s2", 'm2["count",1]', attempt=1, commit=1)
    deadline = time.monotonic() + 5
    while ["count", 1] not in arena.server.seen(session.id) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert arena.server.seen(session.id).count(["count", 1]) == 1
    return over_http(reply)


@case("a fourth candidate", "4429")
def candidates(arena: Arena) -> str:
    session = arena.session()
    sockets = [arena.websocket() for _ in range(4)]
    for attempt, websocket in enumerate(sockets, 2):
        websocket.text(session.resume(attempt=attempt))
        websocket.next_text()
    assert [over_websocket(each) for each in sockets[1:]] == ["lives"] * 3
    assert over_websocket(session.socket) == "lives"
    return over_websocket(sockets[0], ask=False)


@case("a hello for the connection that carries", "4409")
def same_attempt(arena: Arena) -> str:
    session = arena.session()
    websocket = arena.websocket()
    websocket.text(session.resume(attempt=1))
    websocket.next_text()
    return over_websocket(session.socket, ask=False)


@case("a bad hello for the connection that carries", "lives")
def bad_same_attempt(arena: Arena) -> str:
    session = arena.session()
    websocket = arena.websocket()
    websocket.text(session.resume("m2", seq=9, attempt=1))
    assert over_websocket(websocket, ask=False) == "1002"
    return over_websocket(session.socket)


@case("request numbers that go down", "200", lines=0)
def falling_numbers(arena: Arena) -> str:
    session = arena.session("polling")
    session.number = 100
    held = arena.wire()
    body = session.line("a1", wait=20_000) + "\x1e."
    held.send(request("POST", "/fallback/poll", body.encode()))
    time.sleep(0.1)
    for number in (99, 1, 0):
        session.number = number - 1
        began = time.monotonic()
        assert SEPARATOR not in session.post("a1", wait=20_000).text
        assert time.monotonic() - began < 5
    # The held one still gets what comes.
    session.number = 200
    session.post("a1 s2", 'm21["echo","here"]')
    reply = held.reply()
    assert reply.text.endswith('m31["here"]')
    return over_http(reply)


@case("a poll repeated ten times", "200", lines=0)
def repeated_poll(arena: Arena) -> str:
    session = arena.session("polling")
    body = session.line("a1", wait=20_000) + "\x1e."
    held = [arena.wire() for _ in range(10)]
    for wire in held:
        wire.send(request("POST", "/fallback/poll", body.encode()))
        time.sleep(0.02)
    # Few are held for the same answer; the oldest are let go.
    assert [over_http(wire.reply()) for wire in held[:6]] == ["200 4409"] * 6
    session.post("a1 s2", 'm21["echo","here"]')
    answers = [wire.reply() for wire in held[6:]]
    assert all(answer.text.endswith('m31["here"]') for answer in answers)
    return over_http(answers[0])


@case("a thousand messages and one, unhandled", "4429 session")
def over_credit(arena: Arena) -> str:
    session = arena.session()
    session.socket.text(SEPARATOR.join(["a0 s2", 'm2["sleep",2]', *['m2["count",0]'] * 1000]))
    return over_websocket(session.socket)


@case("more bytes than the credit", "4429 session")
def over_credit_in_bytes(arena: Arena) -> str:
    session = arena.session()
    session.socket.text(SEPARATOR.join(["a0 s2", 'm2["sleep",60]']))
    # An event alone may have as many more as a message.
    for number in range(3, 27):
        session.socket.text(f"a0 s{number}\x1e" + 'm2["count","' + "x" * 900_000 + '"]')
    return over_websocket(session.socket)


@case("a reason with line feeds", "4000 session")
def reason_with_lines(arena: Arena) -> str:
    session = arena.session()
    session.socket.text('a0 s2\x1ec[4000,"over\\nERROR root: forged"]')
    return over_websocket(session.socket, ask=False)


@case("a close and more behind it", "4001 session")
def behind_a_close(arena: Arena) -> str:
    session = arena.session()
    session.socket.text('a0 s2\x1ec[4001,""]\x1em2["count",1]\x1ec[4002,""]')
    outcome = over_websocket(session.socket, ask=False)
    assert ["count", 1] not in arena.server.seen(session.id)
    return outcome


@case("a namespace that nobody serves", "4401 session")
def unknown_namespace(arena: Arena) -> str:
    websocket = arena.websocket()
    websocket.text(hello('m0/{"nobody,'))
    welcome = json.loads(websocket.next_text().split(SEPARATOR)[0])
    websocket.text("a0 c1")
    outcome = "lives"
    with contextlib.suppress(Closed):
        # The close comes behind the refusal, in the same envelope or the next.
        while f"[4401,{json.dumps('Unable to connect')}]" not in websocket.next_text():
            pass
        websocket.text("a2")
        outcome = over_websocket(websocket, ask=False)
    # Its session is not one of the arena's, whose connect handlers are counted.
    line = f"session {welcome['id']} ended"
    deadline = time.monotonic() + 5
    while line not in arena.server.log() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert arena.server.log().count(line) == 1
    return outcome
