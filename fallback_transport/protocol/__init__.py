"""The ground floor: the session protocol, pure.

Nothing here opens a socket, reads a clock, starts a thread, rolls dice, logs,
or knows Flask, python-socketio or eventlet. Data and `now` go in; envelopes,
events and the next deadline come out. ``PROTOCOL.md`` says what each rule is
and why.
"""
