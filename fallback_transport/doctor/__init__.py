"""The doctor: what the network does to WebSocket and to long polling; see ``DOCTOR.md``.

* ``findings.py``: judges what was observed; pure.
* ``runs.py``, ``door.py``: the server's part.
* ``examination.py``, ``terminal.py``: the doctor in a terminal.
"""
