"""Why somebody who asked gets no reply.

Exception
├── RequestFailed   what asks the other side is raised this
└── EventRefused    what answers the other side raises this
"""

from __future__ import annotations

#: Characters of what a page's listener has raised that go to the log.
MAX_TOLD = 1000


class RequestFailed(Exception):
    """A request that the other side did not answer: it raised, timed out, or is gone.

    Its first argument is what the page's listener has raised, as it came; as a text it is one
    line, and not a long one, for a handler that does not catch it has it logged.
    """

    def __str__(self) -> str:
        text = super().__str__()[:MAX_TOLD]
        # Line feeds would begin lines that look like others' in the log, or command a terminal.
        return "".join([c if c.isprintable() else ascii(c)[1:-1] for c in text])


class EventRefused(Exception):
    """Raised instead of a handler's own error: the asker gets this one, and nothing is logged.

    Args:
        code, message: what the asker gets.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = int(code)
        self.message = message
