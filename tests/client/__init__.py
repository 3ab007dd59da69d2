"""A Python client for tests: the protocol's client half over real sockets.

* ``session.py``: `ClientSession`, which keeps a session as the browser does, under a
  test's control: which connection to open, to commit, to cut is the test's decision.
* ``raw.py``: single requests and single WebSocket messages, for what no sane client does.
* ``links.py``: the two transports of a `ClientSession`.
* ``packets.py``: Socket.IO packets.
* ``flow.py``: numbered messages both ways, while something is done to the session.
* ``fixtures.py``, ``waiting.py``: servers for a test module, and waiting for what they know.
"""
