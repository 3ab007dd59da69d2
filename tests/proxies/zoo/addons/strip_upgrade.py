"""A proxy that does not know WebSocket: its handshake becomes an ordinary request."""

from mitmproxy import http


def requestheaders(flow: http.HTTPFlow) -> None:
    headers = flow.request.headers
    if "upgrade" in headers:
        for name in [each for each in headers if each.lower().startswith("sec-websocket")]:
            del headers[name]
        del headers["upgrade"]
        headers["connection"] = "keep-alive"
