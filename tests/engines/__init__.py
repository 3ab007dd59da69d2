"""Browser engines of all ages, each with the same page in it.

* ``engine.py``: what an engine is; ``playwright_engines.py`` and ``webkit_engines.py`` have them.
* ``page.js``, ``contents.py``: the page, and the messages that both ends can work out.
* ``application.py``: the server of that page.
* ``audit.py``: what became of the messages, from both ends' logs.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.engines.engine import Engine, EngineError
from tests.engines.playwright_engines import (
    CHROMIUM,
    CHROMIUM_WITHOUT,
    FIREFOX,
    FIREFOX_WITHOUT,
)
from tests.engines.webkit_engines import (
    EDBROWSE,
    PHANTOMJS,
    PHANTOMJS_WITHOUT,
    QT4_WEBKIT,
    QTWEBKIT,
)

#: By name; a column of the table each.
ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        CHROMIUM,
        CHROMIUM_WITHOUT,
        FIREFOX,
        FIREFOX_WITHOUT,
        PHANTOMJS,
        PHANTOMJS_WITHOUT,
        QTWEBKIT,
        QT4_WEBKIT,
        EDBROWSE,
    )
}

__all__ = ["ENGINES", "Engine", "EngineError"]
