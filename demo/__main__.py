"""``python -m demo``: serves the demo behind the fault proxy. `demo/run` installs it first."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import warnings


def patch(mode: str) -> str:
    """Patch the standard library as `mode` needs it, before anything else is imported."""
    if mode == "eventlet":
        # What it warns of is in DEPLOYING.md; here it would hide the address.
        warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
        import eventlet

        eventlet.monkey_patch()
    elif mode == "gevent":
        from gevent import monkey

        monkey.patch_all()
    return {"eventlet": "eventlet.monkey_patch()", "gevent": "gevent.monkey.patch_all()"}.get(
        mode, "nothing"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="demo/run", description="Serves the demo.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument(
        "--async-mode", default="eventlet", choices=("eventlet", "gevent", "threading")
    )
    arguments = parser.parse_args()
    patched = patch(arguments.async_mode)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

    from demo.app import app, tell, tick, transport
    from demo.breaker import Breaker, State
    from tests.proxies.fault_process import FaultProxyError

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        upstream = free.getsockname()[1]
    app.config["FALLBACK_TRANSPORT_ASYNC_MODE"] = arguments.async_mode
    transport.init_app(app)

    def announce(state: State) -> None:
        tell("network", state)

    try:
        breaker = Breaker(app, arguments.host, arguments.port, upstream, announce)
        with breaker:
            print(f"patched: {patched}; async mode: {arguments.async_mode}", flush=True)
            print(f"The demo is at http://{arguments.host}:{breaker.port}", flush=True)
            transport.server.start_background_task(tick)
            transport.run(app, port=upstream)
    except FaultProxyError as error:
        sys.exit(f"demo/run: {error}; is port {arguments.port} taken? Choose another by --port")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
