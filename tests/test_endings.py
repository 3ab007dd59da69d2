"""`Endings`: of each session one thing at a time, and nothing is left behind."""

from __future__ import annotations

import threading

import pytest

from fallback_transport.endings import Endings


def test_what_is_asked_for_meanwhile_is_done_next_by_who_is_at_it() -> None:
    endings, log = Endings(threading.Lock()), []

    def first() -> None:
        endings.run("one", lambda: log.append("second"))
        endings.run("other", lambda: log.append("another session's"))
        log.append("first")

    endings.run("one", first)
    assert log == ["another session's", "first", "second"]
    endings.run("one", lambda: log.append("later"))
    assert log[-1] == "later"
    assert not endings._waiting


def test_the_first_error_is_raised_behind_all_of_it() -> None:
    endings, log = Endings(threading.Lock()), []

    def fail(text: str) -> None:
        log.append(text)
        raise ValueError(text)

    def first() -> None:
        endings.run("one", lambda: fail("second"))
        endings.run("one", lambda: log.append("third"))
        fail("first")

    with pytest.raises(ValueError, match="first"):
        endings.run("one", first)
    assert log == ["first", "second", "third"]
    assert not endings._waiting
