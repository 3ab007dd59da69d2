"""The test side of the fault proxy: starts the process, talks to it, ends it.

Synchronous, and without anything of pytest, so that scripts and the demo can
use it too::

    with FaultProxy(upstream=5000) as proxy:
        proxy.rules(Rule(Gateway(504), method="POST", every=5), Latency(0.05))
        …                                 # use proxy.url
        assert busiest(proxy.requests()) <= 2
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .faults import How, RuleError
from .journal import RequestRecord, Statistics
from .rules import RuleLike, as_rule
from .scenarios import SCENARIOS, scenario_rules


class FaultProxyError(RuntimeError):
    """The proxy did not start, or could not be reached."""


class FaultProxy:
    """A fault proxy in a process of its own; a context manager.

    Args:
        upstream: the loopback port that it forwards to.
        rules: in force from the start.
        host: the address that it listens on; the control port stays on loopback.
        listen: its port; 0: a free one.
        seed: of its dice; None: a random one, see ``seed``.
    """

    port: int
    control_port: int
    #: Give it to the constructor to have the same dice again.
    seed: int

    def __init__(
        self,
        upstream: int,
        rules: Iterable[RuleLike] = (),
        *,
        host: str = "127.0.0.1",
        listen: int = 0,
        seed: int | None = None,
    ) -> None:
        self._rules = [as_rule(rule).to_json() for rule in rules]
        self._options = [f"--upstream={upstream}", f"--host={host}", f"--listen={listen}"]
        self._options.append("--parent-death")
        if seed is not None:
            self._options.append(f"--seed={seed}")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> FaultProxy:
        """Start the process, if it has not been started, and wait until it listens.

        Raises:
            FaultProxyError: it did not start; the message has what it said.
        """
        if self._process is not None:
            return self
        assert __package__
        root = Path(__file__).resolve().parents[__package__.count(".") + 1]
        command = [sys.executable, "-m", f"{__package__}.fault_proxy", *self._options]
        process = subprocess.Popen(
            [*command, f"--rules={json.dumps(self._rules)}"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self.stop()
            raise FaultProxyError(f"the fault proxy ended with {process.returncode}, see stderr")
        ready = json.loads(line)
        self.port, self.control_port, self.seed = ready["port"], ready["control"], ready["seed"]
        return self

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def __enter__(self) -> FaultProxy:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.stop()

    @property
    def pid(self) -> int:
        """The process."""
        if self._process is None:
            raise FaultProxyError("the fault proxy is not running")
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """The same for WebSockets."""
        return f"ws://127.0.0.1:{self.port}"

    def rules(self, *rules: RuleLike) -> None:
        """Put these rules in force instead of all others, for what comes from now on.

        Raises:
            RuleError: one of them cannot be meant; the old ones stay.
        """
        self._ask("PUT", "/rules", [as_rule(rule).to_json() for rule in rules])

    def scenario(self, *names: str, path: str | None = None) -> None:
        """Put the named scenarios of ``scenarios.py`` in force together.

        Args:
            names: keys of ``SCENARIOS``.
            path: a regular expression; requests elsewhere are spared.
        """
        self.rules(*scenario_rules(*names, path=path))
        if any(SCENARIOS[name].cuts for name in names):
            self.kill()

    def clear(self) -> None:
        """Forward everything untouched from now on."""
        self.rules()

    def kill(self, how: How = "rst") -> int:
        """End every live connection now; return how many clients had one."""
        document = self._ask("POST", "/kill", {"how": how})
        assert isinstance(document, dict)
        return int(document["killed"])

    def statistics(self) -> Statistics:
        """Return the counters of this moment."""
        document = self._ask("GET", "/statistics")
        assert isinstance(document, dict)
        return Statistics(**document)

    def requests(self, since: float = 0.0) -> list[RequestRecord]:
        """Return the requests that came after this ``time.monotonic()``, in order."""
        document = self._ask("GET", f"/requests?since={since!r}")
        assert isinstance(document, list)
        return [RequestRecord(**record) for record in document]

    def wait_until(
        self, condition: Callable[[Statistics], bool], timeout: float = 5.0
    ) -> Statistics:
        """Return the first statistics that meet a condition.

        Raises:
            TimeoutError: none did, in time; the message has the last ones.
        """
        deadline = time.monotonic() + timeout
        while not condition(statistics := self.statistics()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s; the last: {statistics}")
            time.sleep(0.01)
        return statistics

    def _ask(self, method: str, path: str, document: object = None) -> object:
        if self._process is None:
            raise FaultProxyError("the fault proxy is not running")
        control = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=10)
        try:
            content = None if document is None else json.dumps(document)
            control.request(method, path, content, {"Content-Type": "application/json"})
            response = control.getresponse()
            answer: object = json.loads(response.read())
        except OSError as error:
            raise FaultProxyError(f"the fault proxy (pid {self.pid}) does not answer") from error
        finally:
            control.close()
        if response.status != 200:
            assert isinstance(answer, dict)
            raise RuleError(answer["error"])
        return answer
