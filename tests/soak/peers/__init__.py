"""What other libraries' own clients and servers do in the same broken networks.

``python -m tests.soak.peers`` runs all of them side by side: the same faults at
the same moments, the same messages, one Chromium, and the checker of the soak.
Each is used as its documentation says, WebSocket first.
"""
