"""`Deferral`: what is logged in the hub's thread is written by a task, in order."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar

import pytest

from fallback_transport.runtime import deferral as module
from fallback_transport.runtime.deferral import Deferral

logger = logging.getLogger("fallback_transport.test_deferral")


class Waiting(logging.Handler):
    """A handler that lets something else happen before it has written a line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.meanwhile: Callable[[], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        self.lines.append(record.getMessage())


class Deferred:
    """A logger of the package whose lines are deferred, and the tasks that write them."""

    def __init__(self) -> None:
        self.here = True
        self.tasks: list[Callable[[], None]] = []
        self.handler = Waiting()
        self.deferral = Deferral(lambda: self.here, self.tasks.append)

    @property
    def lines(self) -> list[str]:
        return self.handler.lines

    def run(self) -> None:
        while self.tasks:
            self.tasks.pop(0)()


@pytest.fixture
def deferred() -> Iterator[Deferred]:
    made = Deferred()
    logger.addHandler(made.handler)
    made.deferral.start()
    yield made
    made.deferral.stop()
    logger.removeHandler(made.handler)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("fallback_transport"):
            logging.getLogger(name).removeFilter(made.deferral)


def test_a_line_is_written_by_a_task(deferred: Deferred) -> None:
    logger.warning("%s", "one")
    logger.warning("two")
    assert (deferred.lines, len(deferred.tasks)) == ([], 1)
    deferred.run()
    assert deferred.lines == ["one", "two"]
    logger.warning("three")
    deferred.run()
    assert deferred.lines == ["one", "two", "three"]


def test_what_a_log_that_waits_has_no_room_for_is_counted(
    deferred: Deferred, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    lost = logging.getLogger("fallback_transport.runtime")
    lost.addHandler(deferred.handler)
    try:
        for number in range(5):
            logger.warning("%d", number)
        deferred.run()
        told = "2 lines were not logged: the log is too slow for them"
        assert deferred.lines == ["0", "1", "2", told]
        # Once.
        logger.warning("again")
        deferred.run()
        assert deferred.lines[4:] == ["again"]
    finally:
        lost.removeHandler(deferred.handler)


def test_a_filter_that_drops_what_is_repeated_is_asked_once(
    request: pytest.FixtureRequest,
) -> None:
    asked: list[logging.LogRecord] = []

    def again(record: logging.LogRecord) -> bool:
        asked.append(record)
        return asked.count(record) == 1

    logger.addFilter(again)
    try:
        deferred: Deferred = request.getfixturevalue("deferred")
        logger.warning("one")
        deferred.run()
        assert (deferred.lines, len(asked)) == (["one"], 1)
    finally:
        logger.removeFilter(again)


class Large:
    """What a line may be about."""

    def __str__(self) -> str:
        return "large" * 2000


def test_many_lines_that_wait_keep_nothing_of_what_they_are_about(
    deferred: Deferred, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WHOLE", 1)
    seen: list[tuple[logging.LogRecord, str]] = []

    def emit(record: logging.LogRecord) -> None:
        seen.append((record, logging.Formatter().format(record)))

    def fail(about: Large) -> None:
        raise ValueError(f"told to: {about}")

    monkeypatch.setattr(deferred.handler, "emit", emit)
    known = []
    for _ in range(3):
        about = Large()
        known.append(weakref.ref(about))
        try:
            fail(about)
        except ValueError as error:
            logger.exception("%s failed: %.10s", about, error)
        del about
    # The first waits as it is.
    assert [each() is None for each in known] == [False, True, True]
    deferred.run()
    (first, whole), *others = seen
    assert first.exc_info
    assert "ValueError: told to: large" in whole
    for record, text in others:
        assert not record.exc_info
        assert text.startswith("largelarge")
        assert "largelarge failed: told to: l\nTraceback (most" in text
        assert text.endswith("largelarge")
        assert len(text) < 2 * module.MAX_TEXT + 100


def test_an_error_is_written_in_the_context_that_it_was_logged_in(
    deferred: Deferred, monkeypatch: pytest.MonkeyPatch
) -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[tuple[str, str]] = []

    def fail(name: str) -> None:
        user.set(name)
        try:
            raise ValueError
        except ValueError:
            logger.exception("%s failed", name)
        logger.warning("%s goes on", name)
        user.set("somebody else")

    monkeypatch.setattr(
        deferred.handler, "filter", lambda record: seen.append((record.getMessage(), user.get()))
    )
    for name in ("ann", "bob"):
        Context().run(fail, name)
    deferred.run()
    told = ["ann failed", "ann goes on", "bob failed", "bob goes on"]
    assert [line for line, _ in seen] == told
    assert [whose for _, whose in seen] == ["ann", "nobody", "bob", "nobody"]


def test_another_thread_writes_its_own(deferred: Deferred) -> None:
    deferred.here = False
    logger.warning("one")
    assert (deferred.lines, deferred.tasks) == (["one"], [])


def test_a_line_of_while_another_is_written_does_not_overtake(deferred: Deferred) -> None:
    def meanwhile() -> None:
        logger.warning("three")
        deferred.run()

    deferred.handler.meanwhile = meanwhile
    logger.warning("one")
    logger.warning("two")
    deferred.run()
    assert deferred.lines == ["one", "two", "three"]


def test_at_the_end_all_is_written(deferred: Deferred) -> None:
    logger.warning("one")
    deferred.deferral.stop()
    assert deferred.lines == ["one"]
    logger.warning("two")
    assert deferred.lines == ["one", "two"]


def test_what_a_handler_raises_is_told_on_standard_error_and_not_logged(
    deferred: Deferred, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logged, it would be raised again, and so on, without a pause."""
    failing = deferred.handler.emit

    def fails(record: logging.LogRecord) -> None:
        if record.getMessage() == "lost":
            raise OSError("no space left, it was told to say")
        failing(record)

    monkeypatch.setattr(deferred.handler, "emit", fails)
    logger.warning("lost")
    logger.warning("behind")
    deferred.run()
    assert deferred.lines == ["behind"]
    said = capsys.readouterr().err
    assert said.count("OSError: no space left, it was told to say") == 1
    assert "Message: 'lost'" in said


def test_a_handler_that_ends_the_task_does_not_end_the_writing(
    deferred: Deferred, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(record: logging.LogRecord) -> None:
        raise SystemExit("told to")

    logger.warning("lost")
    logger.warning("behind")
    monkeypatch.setattr(deferred.handler, "emit", fails)
    with pytest.raises(SystemExit):
        deferred.run()
    monkeypatch.undo()
    deferred.run()
    assert deferred.lines == ["behind"]
    logger.warning("one")
    deferred.run()
    assert deferred.lines == ["behind", "one"]
