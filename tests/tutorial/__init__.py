"""An application written for Flask-SocketIO, and what it takes to run it over our sessions.

* ``application/``: a folder as its author has it: the app, its page, and its tests.
* ``change.py``: the change that MIGRATING.md asks for, line by line.

Its page is driven in ``tests/browser/test_tutorial.py``.
"""
