"""Whether the benchmark counts truthfully, and compares what it says it compares."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests import measured
from tests.bench.__main__ import compilable, main, possible
from tests.bench.__main__ import load as load_results
from tests.bench.generator import Load, Outcome, generate, program
from tests.bench.measures import (
    BESIDE,
    CPU,
    REQUESTS,
    ROWS,
    TRANSPORTS,
    Cell,
    Results,
    applies,
)
from tests.bench.recovery import recover
from tests.bench.relay import Relay
from tests.bench.subject import ALL, Running
from tests.bench.table import ALL_ROWS, MAIN, NAMES, full_table, main_table, targets_table
from tests.bench.targets import (
    COMPILED,
    ECHO,
    FLASK,
    NODE,
    OURS,
    TARGETS,
    above_floor,
    asked_for,
    ratio,
)

OUTCOME = Outcome(
    **dict.fromkeys(Outcome.__dataclass_fields__, 0)  # type: ignore[arg-type]
    | {"mode": "echo", "protocol": "fallback", "transport": "websocket"},
)


class Known:
    """A WebSocket server that counts what comes, and gives it back."""

    def __init__(self) -> None:
        self.connections = 0
        self.messages = 0
        self.lock = threading.Lock()

    def __call__(self, connection: ServerConnection) -> None:
        with self.lock:
            self.connections += 1
        connection.send("first")
        # The generator ends as a killed client does.
        with contextlib.suppress(ConnectionClosedError):
            for message in connection:
                with self.lock:
                    self.messages += 1
                self.answer(connection, str(message))

    def answer(self, connection: ServerConnection, message: str) -> None:
        connection.send(message)


@contextlib.contextmanager
def served(known: Known) -> Iterator[int]:
    """It listens on a free port."""
    protocols = [Subprotocol("fallback.v1")] if isinstance(known, Speaking) else None
    with serve(known, "127.0.0.1", 0, compression=None, subprotocols=protocols) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Not within a measured time."""
    program()


def load(port: int, **more: object) -> Load:
    return Load("websocket", port, 0, seconds=0.3, warm=0.0, **more)  # type: ignore[arg-type]


def test_each_echo_is_one_message() -> None:
    known = Known()
    with served(known) as port:
        outcome = generate(load(port, clients=5, window=3))
    assert known.connections == outcome.ready == 5
    assert known.messages == outcome.messages == outcome.samples > 0
    assert outcome.sound, outcome
    # A frame's head, and the client's mask; the message's kind and its 32 bytes.
    assert outcome.bytes_out == outcome.messages * (2 + 4 + 33)
    assert outcome.bytes_in == outcome.messages * (2 + 33)


def test_what_is_lost_or_altered_is_told() -> None:
    class Careless(Known):
        """Loses the second message, alters the third one."""

        def answer(self, connection: ServerConnection, message: str) -> None:
            if self.messages != 2:
                connection.send(message[::-1] if self.messages == 3 else message)

    with served(Careless()) as port:
        # Three at a time, so that those behind the lost one come.
        outcome = generate(load(port, window=3, lost_after=0.5))
    assert outcome.missing == 1
    assert outcome.mismatched == 1
    assert not outcome.sound
    cell = Cell(ECHO, "websocket", OURS, (outcome,))
    assert "1 messages missing after 5 s of silence" in cell.notes
    assert "1 messages altered or repeated" in cell.notes


def test_what_a_server_is_still_at_work_on_is_late_and_not_lost() -> None:
    class Busy(Known):
        """Says nothing for far longer than `lost_after`, and has not lost anything."""

        def answer(self, connection: ServerConnection, message: str) -> None:
            until = time.thread_time() + 1.6
            while time.thread_time() < until:
                pass
            connection.send(message)

    with served(Busy()) as port:
        for mode in ("echo", "fanout"):
            it = replace(load(port, mode=mode, lost_after=1.0), pid=os.getpid())
            outcome = generate(it)
            assert outcome.sound, outcome
            assert outcome.messages == outcome.samples == 1


class Speaking(Known):
    """Speaks fallback.v1 with one client at a time, as far as the generator does."""

    def __call__(self, connection: ServerConnection) -> None:
        connection.recv()
        welcome = {"welcome": 1, "id": "i", "attempt": 1, "key": "k", "received": 1}
        connection.send(json.dumps(welcome, separators=(",", ":")))
        connection.send('a1 s1\x1em2["first",""]')
        self.sent = self.come = 1
        with contextlib.suppress(ConnectionClosedError):
            for text in connection:
                head, *segments = str(text).split("\x1e")
                marks = {token[0]: int(token[1:]) for token in head.split()}
                if segments:
                    assert marks["s"] == self.come + 1
                    self.come += len(segments)
                self.take(connection, marks, segments)

    def take(
        self, connection: ServerConnection, marks: dict[str, int], segments: list[str]
    ) -> None:
        """Take an envelope."""
        raise NotImplementedError

    def give(self, connection: ServerConnection, segments: list[str], more: str = "") -> None:
        """Send an envelope."""
        head = f"a{self.come} s{self.sent + 1}{more}"
        self.sent += len(segments)
        connection.send("\x1e".join([head, *segments]))


def test_an_answer_states_the_messages_beside_its_question() -> None:
    answers: list[tuple[int, int]] = []

    class Asking(Speaking):
        """Asks with every echo."""

        def take(
            self, connection: ServerConnection, marks: dict[str, int], segments: list[str]
        ) -> None:
            if "p" in marks:
                answers.append((marks["p"], marks["a"]))
            for segment in segments:
                self.give(connection, [segment], f" q{self.sent + 1}")

    with served(Asking()) as port:
        outcome = generate(replace(load(port), protocol="fallback"))
    assert outcome.sound, outcome
    assert len(answers) >= outcome.messages > 0
    assert all(asked == stated for asked, stated in answers)


def test_what_one_envelope_brings_is_answered_in_one() -> None:
    """As the browser's half does, see tests/js/session.test.mjs."""
    sizes: dict[int, set[int]] = {32: set(), 50_000: set()}

    class Echoing(Speaking):
        """Gives back each envelope."""

        def take(
            self, connection: ServerConnection, marks: dict[str, int], segments: list[str]
        ) -> None:
            if segments:
                sizes[50_000 if len(segments[0]) > 50_000 else 32].add(len(segments))
                self.give(connection, segments)

    with served(Echoing()) as port:
        for size in sizes:
            outcome = generate(replace(load(port), protocol="fallback", window=3, size=size))
            assert outcome.sound, outcome
    # Of the large ones a second would not fit into 64,000 bytes.
    assert sizes == {32: {3}, 50_000: {1}}


def test_a_delay_is_in_the_latency() -> None:
    with served(Known()) as port, Relay(port, 0.025) as relay:
        outcome = generate(load(relay.port))
    # Scheduling, of this process too, comes on top.
    assert 50 <= outcome.p50 < 100
    assert outcome.sound


def test_a_fan_out_is_counted_by_deliveries() -> None:
    class Fanning(Known):
        def __init__(self) -> None:
            super().__init__()
            self.all: set[ServerConnection] = set()

        def __call__(self, connection: ServerConnection) -> None:
            with self.lock:
                self.all.add(connection)
            super().__call__(connection)

        def answer(self, connection: ServerConnection, message: str) -> None:
            for each in self.all:
                each.send(message)

    known = Fanning()
    with served(known) as port:
        outcome = generate(load(port, mode="fanout", clients=4))
    assert outcome.messages == known.messages * 4
    assert outcome.samples == known.messages > 0
    assert outcome.sound


def test_a_generator_that_is_the_limit_says_so() -> None:
    count = 50_000
    with served(Known()) as port:
        slow = generate(load(port, interval=0.05))
    assert not slow.bound, slow

    class Flooding(Known):
        """Answers with a great many frames at once: to send them costs less than to read them."""

        def answer(self, connection: ServerConnection, message: str) -> None:
            text = f"f{message[1:]}".encode()
            connection.socket.sendall((bytes([0x81, len(text)]) + text) * count)

    with served(Flooding()) as port:
        flooded = generate(load(port, mode="fanout", burst=count))
    assert flooded.messages % count == 0
    assert flooded.sound, flooded
    assert flooded.share > 2 * slow.share, (slow, flooded)
    # Whatever was the limit there: at this share it is told.
    bound = replace(flooded, generator_cpu=0.5, generator_waited=1.0, seconds=1.6)
    assert Cell("fan-1", "websocket", OURS, (bound,)).notes == ["generator bound"]
    free = replace(bound, generator_waited=0.0)
    assert not Cell("fan-1", "websocket", OURS, (free,)).notes


def test_a_connection_that_is_cut_loses_nothing_of_ours() -> None:
    ours = next(subject for subject in ALL if subject.name == OURS)
    with Running(ours) as running:
        outcome = recover(running, "websocket", cuts=1, between=0.5)
    assert outcome.messages > 10
    assert (outcome.missing, outcome.mismatched) == (0, 0)
    # Longer than what is between two messages: there was a cut.
    assert outcome.max > 20, outcome


def test_the_command_measures_tells_and_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["ws", "--repeat", "1", "--seconds", "0.1"]
    kept, text = tmp_path / "kept.json", tmp_path / "table.md"
    command = ["bench", "--only", "echo-1x1", "--peer", *names, "--json", str(kept)]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    told = capsys.readouterr().out
    for name in (OURS, "ws (Node.js)"):
        assert name in told
    # And it can be shown again.
    written: dict[Path, str] = {}

    def write(name: str, content: str, path: Path) -> None:
        assert measured.between(measured.replaced(path.read_text(), name, content), name) == content
        written[path] = content

    monkeypatch.setattr(measured, "write", write)
    shown = ["bench", "--from", str(kept), "--markdown", str(text), "--write"]
    monkeypatch.setattr(sys, "argv", shown)
    assert main() == 0
    assert text.read_text().startswith(f"|  |  | {OURS} |")
    assert text.read_text().startswith(written[measured.FIGURES].rstrip())
    assert main_rows(written[measured.FIGURES]) == written[measured.README]
    found, circumstances = load_results(kept)
    assert circumstances["repeat"] == 1
    assert found.value("echo-1x1-32B", "websocket", OURS, CPU) is not None
    cells = list(found)
    assert len(cells) == 3, "ws has no polling"
    assert all(outcome.sound for cell in cells for outcome in cell.outcomes)


def main_rows(document: str) -> str:
    """Of what tests/MEASURED.md has, what the README is to have: one figure of each row."""
    first = {
        f"| {row.text}, {NAMES[transport]} | {row.metrics[0].name} |"
        for row in ALL_ROWS
        for transport in TRANSPORTS
    }
    lines = document.partition("\n### The targets")[0].splitlines(keepends=True)
    # Whatever is no row of the table is there as it is.
    return "".join(
        line
        for line in lines
        if line[:3] in ("|  ", "| -") or line[:1] != "|" or any(map(line.startswith, first))
    )


def test_the_readme_has_the_main_rows_of_the_document() -> None:
    short, long = (
        measured.between(path.read_text(), "bench") for path in (measured.README, measured.FIGURES)
    )
    assert main_rows(long) == short
    assert short.count("\n| ") > len(ROWS) // 2


def test_a_machine_that_allows_too_little_is_told_of() -> None:
    large = next(row for row in ROWS if row.key == "idle-10000")
    small = next(row for row in ROWS if row.key == "idle-1000")
    assert possible([small, large], 20_000) == ([small, large], [])
    rows, left_out = possible([small, large], 10_000)
    assert rows == [small]
    assert left_out == ["idle-10000, 10,200 descriptors of 10,000 (RLIMIT_NOFILE)"]


def test_without_a_compiler_the_compiled_package_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    subjects = [subject for subject in ALL if subject.name in (OURS, COMPILED)]
    kept, left_out = compilable(subjects)
    assert [subject.name for subject in kept] == [OURS]
    assert len(left_out) == 1
    assert left_out[0].startswith(f"{COMPILED}, compiler is missing: install ")
    # Who does not measure it needs none.
    assert compilable(kept) == (kept, [])


def test_the_targets_are_those_of_the_compiled_package_too() -> None:
    found = results({(ECHO, "websocket", COMPILED): (4,), (ECHO, "websocket", NODE): (10,)})
    lines = [target.line(found) for target in TARGETS]
    assert [line for line in lines if line.startswith("compiled: ") and "| ok" in line] == [
        "compiled: WebSocket echo, 50 clients x 4, server CPU per message, by Node's Socket.IO: "
        "at most 1.2 x | 0.4 x | ok"
    ]


def test_what_the_targets_ask_for_is_there_to_be_measured() -> None:
    rows = {row.key: row for row in (*ROWS, BESIDE)}
    subjects = {subject.name: subject for subject in ALL}
    for key, transport, name in asked_for():
        assert applies(rows[key], transport, subjects[name])
        # `--quick` has it, too.
        assert key == BESIDE.key or rows[key].quick is not None


def test_a_target_says_what_makes_it_doubtful() -> None:
    found = results({(ECHO, "websocket", OURS): (5,)})
    peer = replace(OUTCOME, seconds=1.0, messages=1000, server_cpu=0.01)
    found.add(ECHO, "websocket", NODE, replace(peer, generator_cpu=0.9, missing=3))
    assert (
        TARGETS[0]
        .line(found)
        .endswith(
            f"| ok ({NODE}: 3 messages missing after 5 s of silence; {NODE}: generator bound)"
        )
    )
    lossless = next(target for target in TARGETS if target.text.startswith("messages lost, al"))
    assert lossless.met(found)
    # One that is lost is one too many, whatever else it is good for.
    found.add(ECHO, "polling", "fallback_transport (gevent)", replace(peer, missing=1))
    assert lossless.met(found) is False


def results(costs: dict[tuple[str, str, str], tuple[float, ...]], requests: int = 0) -> Results:
    """Outcomes that cost so many microseconds a message."""
    found = Results()
    for (row, transport, subject), values in costs.items():
        for value in values:
            outcome = replace(
                OUTCOME,
                seconds=1.0,
                messages=1000,
                samples=1000,
                requests=requests * 1000,
                server_cpu=value / 1000,
            )
            found.add(row, transport, subject, outcome)
    return found


def test_ratios_are_of_the_medians_of_the_right_cells() -> None:
    found = results(
        {
            (ECHO, "websocket", OURS): (9, 4, 5),
            (ECHO, "websocket", NODE): (10, 11, 400),
            (ECHO, "polling", OURS): (70,),
            (ECHO, "polling", NODE): (35,),
            ("fan-500", "websocket", OURS): (1000,),
        }
    )
    assert ratio(ECHO, "websocket", CPU, NODE)(found) == pytest.approx(5 / 11)
    assert ratio(ECHO, "polling", CPU, NODE)(found) == pytest.approx(2)
    assert ratio(ECHO, "polling", CPU, FLASK)(found) is None
    lines = [target.line(found) for target in TARGETS]
    assert [line for line in lines if not line.endswith("| not measured | -")] == [
        "WebSocket echo, 50 clients x 4, server CPU per message, by Node's Socket.IO: "
        "at most 1.2 x | 0.455 x | ok",
        "polling echo, 50 clients x 4, server CPU per message, by Node's Socket.IO: "
        "at most 1 x | 2 x | missed",
        "messages lost, altered or repeated and clients that failed, in all rows and modes: "
        "at most 0 | 0 | ok",
    ]


def test_the_floor_is_taken_off_for_each_request() -> None:
    found = results(
        {
            (ECHO, "polling", "python-socketio (gevent)"): (100,),
            (ECHO, "polling", "empty WSGI (gevent)"): (30,),
        },
        requests=2,
    )
    assert found.value(ECHO, "polling", "python-socketio (gevent)", REQUESTS) == 2
    assert above_floor("polling", "gevent", found, "python-socketio") == pytest.approx(40)


def test_the_tables_have_every_figure() -> None:
    found = results({(ECHO, "websocket", OURS): (4, 5, 6), (ECHO, "websocket", NODE): (10,)})
    main = main_table(found)
    assert main.splitlines()[0] == f"|  |  | {OURS} | {NODE} |"
    assert main.splitlines()[-1].endswith("| server CPU per message | 5.0 µs | 10.0 µs |")
    full = full_table(found)
    assert "| 5.0 µs (4.0 to 6.0) |  |  |" in full
    assert "| 10.0 µs | 2 |  |" in full
    assert targets_table(found).count("\n") == len(TARGETS) + 1


def test_every_name_is_one_of_those_that_there_are() -> None:
    names = [subject.name for subject in ALL]
    assert len(set(names)) == len(names)
    assert {*MAIN, OURS, FLASK, NODE} <= set(names)
    assert len({row.key for row in ROWS}) == len(ROWS)
