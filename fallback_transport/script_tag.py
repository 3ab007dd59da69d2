"""`{{ fallback_transport() }}`: the script element for a page, as this request needs it."""

from __future__ import annotations

from collections.abc import Iterable

from flask import g, has_request_context, request
from markupsafe import Markup

from .files import SCRIPT, load

# What checks the hash must be able to read the file: by CORS, where the page is in a sandbox.
_TAG = Markup(
    '<script src="{src}" integrity="{integrity}" crossorigin data-url="{url}"{nonce}></script>'
)
_NONCE = Markup(' nonce="{}"')


def script_tag(mounts: Iterable[str], mount: str | None = None, nonce: str | None = None) -> Markup:
    """The element that loads the browser's half.

    The file's URL has its version, so that it may be kept for a year; `FallbackTransport.connect()`
    of the page then goes to this mount, wherever the application itself is mounted.

    Args:
        mounts: those of the application.
        mount: one of them; None for the first.
        nonce: that of the page's Content-Security-Policy; None for `g.csp_nonce` or
            `request.csp_nonce` (Flask-Talisman's), if there is one.

    Raises:
        ValueError: there is no such mount.
    """
    known = list(mounts)
    chosen = known[0] if mount is None else mount
    if chosen not in known:
        raise ValueError(f"{chosen!r} is no mount of this application; there are {known}")
    prefix = request.script_root if has_request_context() else ""
    if nonce is None and has_request_context():
        nonce = g.get("csp_nonce") or getattr(request, "csp_nonce", None)
    url = prefix + chosen
    file = load(SCRIPT)
    return _TAG.format(
        src=f"{url.rstrip('/')}/{SCRIPT}?v={file.version}",
        integrity=file.integrity,
        url=url,
        nonce=_NONCE.format(nonce) if nonce else "",
    )
