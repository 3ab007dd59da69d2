"""Every browser engine behind every proxy: the table in the README.

``python -m tests.zoo`` fills it, in the network of ``tests.proxies.zoo.network``; ``tests/run
--zoo`` installs all that it takes and does both.

* ``cell.py``: one engine behind one proxy: what is measured, and what is asked of it.
* ``results.py``: all that was measured, kept in ``results.json``.
* ``table.py``: the same for a reader, in Markdown, between two marks in the README.
"""
