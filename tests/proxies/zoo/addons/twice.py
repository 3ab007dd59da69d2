"""A proxy that sends every POST twice; the browser gets the first answer."""

from mitmproxy import ctx, http


def request(flow: http.HTTPFlow) -> None:
    if flow.request.method == "POST" and flow.is_replay is None:
        ctx.master.commands.call("replay.client", [flow.copy()])
