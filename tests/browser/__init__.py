"""The browser's half in a real Chromium, against a real server, through a proxy that breaks things.

* ``conftest.py``: one browser and one server for all, a fault proxy for each test.
* ``tabs.py``, ``harness.js``: a page with a session in it, as a test drives it.
* ``payloads.py``: messages whose content both ends can work out.
* ``application.py``: the server, ``tests.integration.application`` and streams of such messages.
"""
