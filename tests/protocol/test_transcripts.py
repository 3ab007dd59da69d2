"""Replays the golden transcripts, which the JavaScript half replays too.

`tests/transcripts/README.md` says how they are written.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fallback_transport.protocol import codec, events
from fallback_transport.protocol.client import ClientMachine
from fallback_transport.protocol.envelope import (
    End,
    Envelope,
    Grant,
    Hello,
    PollRequest,
    Unit,
    Welcome,
)
from fallback_transport.protocol.errors import ProtocolError
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.machine import SessionMachine
from fallback_transport.protocol.message import Carried, Close, Message, Part
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import ServerMachine

FILES = sorted(Path(__file__).parent.parent.joinpath("transcripts").glob("*.json"))
TRANSCRIPTS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}
CONVERSATIONS = [name for name, found in TRANSCRIPTS.items() if found["role"] != "codec"]
CASES = [
    pytest.param(case, id=f"{name}-{number}")
    for name, found in TRANSCRIPTS.items()
    if found["role"] == "codec"
    for number, case in enumerate(found["cases"])
]


# -- what a transcript's JSON stands for -------------------------------------------


def read_data(value: Any) -> str | bytes:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def write_data(data: str | bytes) -> Any:
    return {"base64": base64.b64encode(data).decode()} if isinstance(data, bytes) else data


def write_item(item: Carried) -> Any:
    if isinstance(item, Close):
        return {"close": [item.code, item.reason]}
    if isinstance(item, Part):
        return {"part": write_data(item.data), "offset": item.offset, "total": item.total}
    return write_data(item.data)


def read_frame(value: Any) -> Unit:
    frame = read_data(value)
    return codec.decode_binary(frame) if isinstance(frame, bytes) else codec.decode(frame)


def write_event(event: events.Event) -> list[Any]:
    match event:
        case events.MessageReceived(seq, data):
            return ["message", seq, write_data(data)]
        case events.CloseReceived(seq, code, reason):
            return ["close", seq, code, reason]
        case events.Switched(attempt, transport):
            return ["switched", attempt, transport.value]
        case events.Answered(attempt, seconds):
            return ["answered", attempt, seconds]
        case events.ConnectionDropped(attempt, code, reason):
            return ["dropped", attempt, int(code), reason]
        case events.SessionClosed(code, reason, unconfirmed):
            return ["closed", code, reason, [write_item(item) for item in unconfirmed]]


def write_events(found: list[events.Event]) -> list[Any]:
    return [write_event(event) for event in found]


def write_envelope(envelope: Envelope) -> dict[str, Any]:
    return {
        "ack": envelope.ack,
        "received": envelope.received,
        "seq": envelope.seq,
        "messages": [write_item(item) for item in envelope.messages],
        "commit": envelope.commit,
        "key": envelope.key,
        "ask": envelope.ask,
        "answer": envelope.answer,
        **({"got": envelope.got} if envelope.got else {}),
    }


def write_unit(unit: Unit) -> dict[str, Any]:
    match unit:
        case Envelope():
            return {"kind": "envelope", **write_envelope(unit)}
        case Hello(attempt, nonce, id, key, client, envelope):
            inner = {"client": dict(client), "envelope": write_envelope(envelope)}
            names = {"nonce": nonce, "id": id, "key": key}
            return {"kind": "hello", "attempt": attempt, **names, **inner}
        case Welcome(id, attempt, key, grant, envelope, protocol):
            terms = {name: getattr(grant, name) for name in Grant.__dataclass_fields__}
            inner = {"grant": terms, "envelope": write_envelope(envelope)}
            names = {"kind": "welcome", "id": id, "attempt": attempt, "key": key}
            return {**names, **inner, **({"protocol": protocol} if protocol else {})}
        case End(code, reason, session, ack, received):
            end = {"kind": "end", "code": code, "reason": reason, "session": session}
            return {**end, "ack": ack, "received": received}
        case PollRequest(id, key, attempt, number, wait, limit, envelope):
            names = {"kind": "poll", "id": id, "key": key, "attempt": attempt, "number": number}
            return {**names, "wait": wait, "limit": limit, "envelope": write_envelope(envelope)}


# -- the calls of a transcript -------------------------------------------------------


class Replay:
    """One machine, called by the names and with the arguments of a transcript."""

    def __init__(self, transcript: dict[str, Any]) -> None:
        self.now = float(transcript["steps"][0]["now"])
        terms = {
            "grant": Grant(**transcript.get("grant", {})),
            "bounds": Bounds(**transcript.get("bounds", {})),
            "now": self.now,
        }
        self.machine: SessionMachine
        if transcript["role"] == "client":
            self.machine = self.client = ClientMachine(**terms)
        else:
            self.machine = self.server = ServerMachine(key=transcript["key"], **terms)

    def step(self, step: dict[str, Any]) -> Any:
        assert step["now"] >= self.now, "the clock went back"
        self.now = step["now"]
        try:
            call: Callable[..., Any] = getattr(self, "do_" + step["call"])
            return call(*step.get("with", ()))
        except ProtocolError as error:
            return {"error": type(error).__name__}

    def do_send(self, messages: list[Any], options: dict[str, bool] | None = None) -> None:
        items = [Message(read_data(message)) for message in messages]
        self.machine.send(items, **options or {})

    def do_handled(self, seq: int) -> Any:
        return write_events(self.machine.handled(seq, self.now))

    def do_close(self, code: int, reason: str) -> Any:
        return write_events(self.machine.close(code, reason, self.now))

    def do_abort(self, code: int, reason: str) -> Any:
        return write_events(self.machine.abort(code, reason))

    def do_detach(self, attempt: int) -> Any:
        return write_events(self.machine.detach(attempt, self.now))

    def do_ask(self, attempt: int) -> None:
        self.machine.ask(attempt)

    def do_receive(self, attempt: int, frame: Any) -> Any:
        unit = read_frame(frame)
        assert isinstance(unit, Envelope)
        return write_events(self.machine.receive(attempt, unit, self.now))

    def do_pull(self, attempt: int) -> Any:
        envelope = self.machine.pull(attempt, self.now)
        if envelope is None:
            return None
        return [write_data(frame) for frame in codec.encode_frames(envelope)]

    def do_deadline(self) -> float | None:
        return self.machine.deadline()

    def do_timeout(self) -> Any:
        return write_events(self.machine.timeout(self.now))

    def do_state(self) -> str:
        return self.machine.state.value

    def do_hello(self, attempt: int, transport: str, nonce: str | None) -> str:
        return codec.encode(self.client.hello(attempt, Transport(transport), nonce, self.now))

    def do_welcomed(self, text: str) -> Any:
        unit = codec.decode(text)
        assert isinstance(unit, Welcome)
        return write_events(self.client.welcomed(unit, self.now))

    def do_commit(self, attempt: int) -> Any:
        return write_events(self.client.commit(attempt))

    def do_poll(self, options: dict[str, Any]) -> str:
        return codec.encode(self.client.poll(**options))

    def do_ended(self, text: str) -> Any:
        unit = codec.decode(text)
        assert isinstance(unit, End)
        return write_events(self.client.ended(unit))

    def do_welcome(
        self, attempt: int, transport: str, text: str, options: dict[str, bool] | None = None
    ) -> Any:
        unit = codec.decode(text)
        assert isinstance(unit, Hello)
        found = self.server.welcome(
            attempt, Transport(transport), unit.envelope, self.now, **options or {}
        )
        return write_events(found)

    def do_greeting(self, attempt: int) -> str:
        return codec.encode(self.server.greeting(attempt))

    def do_request(self, text: str) -> Any:
        unit = codec.decode(text)
        assert isinstance(unit, PollRequest)
        found, verdict = self.server.request(unit, self.now)
        return [write_events(found), {"poll": verdict.poll.value, "releases": verdict.releases}]

    def do_due(self, attempt: int) -> int | None:
        return self.server.due(attempt, self.now)

    def do_answer(self, attempt: int, options: dict[str, Any]) -> str:
        return codec.encode(self.server.answer(attempt, self.now, **options))

    def do_end(self) -> str:
        return codec.encode(self.server.end())

    def do_superseded(self) -> str:
        return codec.encode(self.server.superseded())

    def do_over_credit(self) -> bool:
        return self.server.over_credit()

    def do_committed(self) -> bool:
        return self.server.committed


# -- the tests -----------------------------------------------------------------------


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_goes_as_written(name: str) -> None:
    transcript = TRANSCRIPTS[name]
    replay = Replay(transcript)
    for number, step in enumerate(transcript["steps"], 1):
        given = replay.step(step)
        where = f"step {number}: {json.dumps(step, ensure_ascii=True)}"
        if "gives" in step:
            assert given == step["gives"], where
        else:
            assert not (isinstance(given, dict) and "error" in given), f"{where}: {given}"


def decode_case(case: dict[str, Any]) -> Unit:
    if "text" in case:
        return codec.decode(case["text"])
    if "base64" in case:
        return codec.decode_binary(base64.b64decode(case["base64"]))
    return codec.decode_body(case_body(case))


def case_body(case: dict[str, Any]) -> bytes:
    return case["body"].encode() if "body" in case else base64.b64decode(case["body64"])


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case.values[0]["unit"]])
def test_the_codec_refuses_as_written(case: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_case(case)
    assert type(caught.value).__name__ == case["unit"]["error"]


@pytest.mark.parametrize("case", [case for case in CASES if "error" not in case.values[0]["unit"]])
def test_the_codec_reads_and_writes_as_written(case: dict[str, Any]) -> None:
    unit = decode_case(case)
    assert write_unit(unit) == case["unit"]
    if "text" in case:
        same = codec.encode(unit) == case["text"]
    elif "base64" in case:
        assert isinstance(unit, Envelope)
        same = codec.encode_frames(unit) == [base64.b64decode(case["base64"])]
    else:
        same = codec.encode_body(unit) == case_body(case)
    assert same == case["same"]


def test_there_are_transcripts_of_every_role() -> None:
    assert {found["role"] for found in TRANSCRIPTS.values()} == {"client", "server", "codec"}
    assert len(CONVERSATIONS) >= 30
    assert len(CASES) >= 100
