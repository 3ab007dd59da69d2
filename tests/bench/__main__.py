"""``python -m tests.bench``"""

from __future__ import annotations

import argparse
import statistics

from .generator import Load, generate
from .subject import ALL, Running, raise_limits

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument(
        "--peer",
        nargs="*",
        default=["fallback_transport (eventlet)", "Flask-SocketIO (eventlet)", "Socket.IO"],
    )
    chosen = parser.parse_args()
    raise_limits()
    subjects = [s for s in ALL if any(s.name.startswith(p) for p in chosen.peer)]
    rows = {
        "echo, 50 clients, 4 on their way": {"clients": 50, "window": 4},
        "fan-out to 500": {"mode": "fanout", "clients": 500},
        "burst to 500": {"mode": "fanout", "clients": 500, "burst": 100, "warm": 2},
    }
    for row, loads in rows.items():
        for transport in ("websocket", "polling"):
            found = {s.name: [] for s in subjects}
            for _ in range(chosen.repeat):
                for subject in subjects:
                    with Running(subject) as running:
                        found[subject.name].append(
                            generate(
                                Load(
                                    subject.protocol,
                                    running.port,
                                    running.pid,
                                    transport,
                                    seconds=chosen.seconds,
                                    **loads,
                                )
                            )
                        )
            print(f"{row}, {transport}")
            for name, outcomes in found.items():
                cpu = statistics.median(o.cpu or 0 for o in outcomes)
                share = statistics.median(o.server_cpu / o.seconds for o in outcomes)
                trouble = "" if all(o.sound for o in outcomes) else ", NOT SOUND"
                rate = max(o.rate for o in outcomes)
                print(
                    f"  {name:32} {cpu:8.1f} us/message, {rate:9.0f}/s at most, "
                    f"server {share:.2f} core{trouble}",
                    flush=True,
                )
