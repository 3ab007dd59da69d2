"""The servers that are measured, each a small program of its own: ``… MODE PORT``.

All do the same. To whoever connects they send "first"; "echo" comes back to its sender; "fan"
goes to everybody, "burst" `BURST` times over; "sink" is answered with an empty "echo". Settings
are the defaults, but for what a comment says: limits that the load would reach.
"""

#: Messages of a burst; the .mjs subjects and measures.py have the same.
BURST = 100
#: Bytes that a peer must take for a message of 1 MB: their default is 1,000,000 with the frame.
MAX_MESSAGE = 4_000_000
#: Connections, which eventlet's server counts to 1024 by default.
MAX_CONNECTIONS = 20_000


def patch(mode: str) -> None:
    """What an application of that async mode does first."""
    if mode == "eventlet":
        import eventlet

        eventlet.monkey_patch()
    elif mode == "gevent":
        from gevent import monkey

        monkey.patch_all()
