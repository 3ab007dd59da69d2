"""The package's lines in the log, written where a log handler may wait.

On eventlet much of this package runs in callbacks of the hub; there and on gevent it holds
locks that only threads respect. A log handler waits cooperatively as soon as it writes to a
socket, and so do all others for its lock; in the hub that is an error, under the lock a breach.

Threads respect those locks, and a log handler has one, too: one that emits what it is told takes
the two the other way round.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context

logger = logging.getLogger("fallback_transport.runtime")

#: Of the names of this package's loggers.
PREFIX = "fallback_transport."
#: How many lines may wait for a log handler, which may wait for ever: a line for each session that
#: may end at once. What comes then is not logged, but counted.
MAX_KEPT = 20_000
#: How many of them wait as they are, with what they are about: the locals of each call below an
#: error, a message of a megabyte among them. What comes then waits as the text that it will be.
MAX_WHOLE = 50
#: Characters of such a text, and of its traceback.
MAX_TEXT = 4_000

_formatter = logging.Formatter()

#: In a thread of tests, which reads at once what was logged, `is_test` is true.
_thread = threading.local()


class Deferral(logging.Filter):
    """Keeps what is logged in the hub's thread for a task, which logs it soon.

    Args:
        here: whether this is the hub's thread, or any that may have locks of ours.
        submit: runs a function as a task.
    """

    def __init__(
        self, here: Callable[[], bool], submit: Callable[[Callable[[], None]], None]
    ) -> None:
        super().__init__()
        self._here = here
        self._submit = submit
        self._lock = threading.RLock()
        #: Each with the context that it is to be written in.
        self._kept: deque[tuple[logging.LogRecord, Context]] = deque()
        self._lost = 0
        self._stopped = False
        #: Whether a task writes, or is about to: one after the other, for it may wait.
        self._due = False

    def start(self) -> None:
        """Defer from now on, whatever loggers of the package there are."""
        for name in list(logging.root.manager.loggerDict):
            if name.startswith(PREFIX):
                # First: what an application's filter is asked twice it may take for a repetition.
                logging.getLogger(name).filters.insert(0, self)
        # With a server that is not ours, nobody else says that the hub runs no more.
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forked)

    def stop(self) -> None:
        """Nothing more runs as a task: log what is kept, and from now on at once."""
        self._stopped = True
        atexit.unregister(self.stop)
        self._write()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it here and now."""
        if self._stopped or getattr(record, "deferred", False) or not self._here():
            return True
        record.deferred = True
        if MAX_WHOLE <= len(self._kept) < MAX_KEPT:
            _make_text(record)
        # To whoever reports an error, its context says whose it is; see `_make_text` of all others.
        context = copy_context() if record.exc_info else Context()
        with self._lock:
            if len(self._kept) >= MAX_KEPT:
                self._lost += 1
                return False
            self._kept.append((record, context))
            begins, self._due = not self._due, True
        if begins:
            self._begin()
        return False

    def _begin(self) -> None:
        try:
            self._submit(self._write)
        except Exception:
            # No thread can be started: with the next line, then.
            self._due = False

    def _write(self) -> None:
        try:
            while (kept := self._next()) is not None:
                record, context = kept
                try:
                    context.run(logging.getLogger(record.name).handle, record)
                except Exception:
                    # Who has logged it is gone, and a line about that would only come here again:
                    # as Python's own handlers do, it is told on standard error.
                    logging.Handler().handleError(record)
                if self._lost and not self._kept:
                    lost, self._lost = self._lost, 0
                    logger.warning("%d lines were not logged: the log is too slow for them", lost)
        except BaseException:
            # It may end no more than this task: what is behind does not wait for the next line.
            self._begin()
            raise

    def _next(self) -> tuple[logging.LogRecord, Context] | None:
        """The line that has waited longest; with the last, the task ends."""
        with self._lock:
            if self._kept:
                return self._kept.popleft()
            self._due = False
            return None

    def _forked(self) -> None:
        """In a fork no task of its parent's goes on, and what is kept is its parent's to log."""
        self._kept.clear()
        self._stopped = True
        atexit.unregister(self.stop)


def _make_text(record: logging.LogRecord) -> None:
    """Let a line keep nothing of what it is about; handlers write it as they would have."""
    record.msg, record.args = _short(record.getMessage()), None
    if record.exc_info:
        # In which formatters look before they make one.
        record.exc_text = _short(_formatter.formatException(record.exc_info))
        record.exc_info = None


def _short(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    # The end of a traceback says what was raised, and where.
    half = MAX_TEXT // 2
    return f"{text[:half]} ... {text[-half:]}"


@functools.cache
def defer_in_threads() -> None:
    """Let a thread write what others log, whoever they are; for as long as the process lives."""

    def submit(write: Callable[[], None]) -> None:
        threading.Thread(target=write, name="fallback_transport log", daemon=True).start()

    Deferral(lambda: not hasattr(_thread, "is_test"), submit).start()


def defer_nothing_here() -> None:
    """Let what this thread logs not wait for another, whoever serves beside it."""
    _thread.is_test = True
