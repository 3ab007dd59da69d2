"""The scripted fault proxy: a network that misbehaves on demand, the same way every time.

* ``fault_process.py``: ``FaultProxy``, what tests and the demo use.
* ``faults.py``, ``rules.py``, ``scenarios.py``: what can go wrong, when, and by name.
* ``fault_proxy.py``: the process itself, ``python -m tests.proxies.fault_proxy``.
* ``wire.py``, ``http_messages.py``, ``outlet.py``: its parts, below the faults.
* ``conversation.py``, ``exchange.py``, ``tunnel.py``, ``upstream.py``: where faults are applied.
* ``control.py``, ``journal.py``: rules in, statistics out.
* ``tiny_upstream.py``: a server and bare sockets, for the tests of the proxy itself.
* ``zoo/``: real proxies, which misbehave as they do everywhere.
"""
