"""A proxy that lets the 101 through, and no frame in either direction."""

from mitmproxy import http


def websocket_message(flow: http.HTTPFlow) -> None:
    assert flow.websocket is not None
    flow.websocket.messages[-1].drop()
