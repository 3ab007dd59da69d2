"""A proxy that passes on the headers that it knows: no cookies, nothing new, nothing custom."""

from mitmproxy import http

KNOWN = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "cache-control", "connection"),
        *("content-encoding", "content-length", "content-type", "date", "etag", "expires"),
        *("host", "if-modified-since", "if-none-match", "last-modified", "location", "origin"),
        *("pragma", "referer", "server", "transfer-encoding", "upgrade", "user-agent", "vary"),
    )
)


def requestheaders(flow: http.HTTPFlow) -> None:
    keep_known(flow.request.headers)


def responseheaders(flow: http.HTTPFlow) -> None:
    assert flow.response is not None
    keep_known(flow.response.headers)


def keep_known(headers: http.Headers) -> None:
    for name in [each for each in headers if each.lower() not in KNOWN]:
        del headers[name]
