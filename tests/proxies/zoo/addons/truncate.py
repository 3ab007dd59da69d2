"""A proxy that cuts every second answer to a poll in half, and keeps its stated length."""

from mitmproxy import http

answers = 0


def response(flow: http.HTTPFlow) -> None:
    global answers
    assert flow.response is not None
    body = flow.response.raw_content
    if not body or not flow.request.path.endswith("/poll"):
        return
    answers += 1
    if answers % 2 == 0:
        flow.response.raw_content = body[: len(body) // 2]
        flow.response.headers["content-length"] = str(len(body))
        # Or the rest would be waited for.
        flow.response.headers["connection"] = "close"
