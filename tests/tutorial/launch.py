"""The application, started in each way in which somebody would."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.integration.served import ROOT, START_WAIT, free_port

_WERKZEUG = "python -c 'import app; app.app.run(port=PORT)'"
_EVENTLET = (
    "python -c 'import app, eventlet.wsgi;"
    ' eventlet.wsgi.server(eventlet.listen(("127.0.0.1", PORT)), app.app)\''
)


@dataclass(frozen=True, slots=True)
class Launch:
    """A way to start it: the async mode, and a command in which PORT stands for its port."""

    mode: str
    command: str


#: By the first part of the name of its host.
LAUNCHES = {
    "flask-run": Launch("threading", "flask --app app run -p PORT"),
    "flask-run-reloader": Launch("threading", "flask --app app run --debug -p PORT"),
    "python-threading": Launch("threading", "python app.py"),
    "python-eventlet": Launch("eventlet", "python app.py"),
    "python-gevent": Launch("gevent", "python app.py"),
    "werkzeug-threading": Launch("threading", _WERKZEUG),
    "werkzeug-eventlet": Launch("eventlet", _WERKZEUG),
    "werkzeug-gevent": Launch("gevent", _WERKZEUG),
    "eventlet-wsgi": Launch("eventlet", _EVENTLET),
    "gunicorn-gevent": Launch("gevent", "gunicorn -k gevent -b 127.0.0.1:PORT app:app"),
    "gunicorn-gthread": Launch(
        "threading", "gunicorn -k gthread --threads 16 -b 127.0.0.1:PORT app:app"
    ),
}


class Launched:
    """The application in a process of its own; a context manager, which ends it.

    Args:
        folder: the application's.
        launch: how it is started.
    """

    def __init__(self, folder: Path, launch: Launch) -> None:
        self.port = free_port()
        self._log = folder / f"log of {self.port}"
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                _arguments(launch.command, self.port),
                cwd=folder,
                env={
                    **os.environ,
                    "ASYNC_MODE": launch.mode,
                    "PORT": str(self.port),
                    "PYTHONPATH": str(ROOT),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Reloaders and gunicorn have processes of their own, which end with the group.
                start_new_session=True,
            )

    def __enter__(self) -> Launched:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()

    def wait(self) -> None:
        """Until it listens.

        Raises:
            RuntimeError: it does not; the text has what it said.
        """
        deadline = time.monotonic() + START_WAIT
        while self._process.poll() is None and time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port)),
            ):
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self._process.args} does not listen:\n{self.said()}")

    def said(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")


def _arguments(command: str, port: int) -> list[str]:
    program, *rest = shlex.split(command.replace("PORT", str(port)))
    if program == "python":
        return [sys.executable, "-W", "ignore::DeprecationWarning", *rest]
    return [str(Path(sys.executable).with_name(program)), *rest]
