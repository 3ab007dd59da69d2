"""Close codes: RFC 6455's where one fits, else 4000 + an HTTP status.

4400 to 4499 belong to this protocol; 4000 to 4399 and 4500 to 4999 to the
application. A code can end a connection or the whole session: the `End` that
carries it says which.
"""

from __future__ import annotations

from enum import IntEnum

#: RFC 6455, section 5.5.1: a close frame's payload has 125 bytes, two of them the code.
MAX_REASON_BYTES = 123


class CloseCode(IntEnum):
    """The close codes that this package sends by itself.

    `NO_CODE` is a page's that calls `close()` as it would a WebSocket's.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_CODE = 1005
    INVALID_TEXT = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    MALFORMED = 4400
    UNAUTHORIZED = 4401
    ORIGIN = 4403
    GONE = 4404
    INACTIVE = 4408
    SUPERSEDED = 4409
    TOO_LARGE = 4413
    MISDIRECTED = 4421
    VERSION = 4426
    TOO_MANY = 4429


def valid_close(code: object, reason: object) -> str | None:
    """Why `code` and `reason` cannot close a session, or None if they can.

    The codes are those that an application may pass to a browser's
    ``WebSocket.close()`` (1000, 3000 to 4999), plus 1001 to 1014 without the
    ones that RFC 6455, section 7.4.1, reserves (1004 and 1006). 1005 is what it says
    of a close frame without a code: here that is said by the number, with no reason.
    """
    if not isinstance(code, int) or not isinstance(reason, str):
        return f"a close has a whole number as its code, and then a text: {code!r}, {reason!r}"
    if code == CloseCode.NO_CODE:
        return "1005 says that no code was given, and takes no reason" if reason else None
    if not (3000 <= code <= 4999 or 1000 <= code <= 1003 or 1007 <= code <= 1014):
        return f"{code} is not a close code: use 1000, or 3000 to 4999"
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        return "the reason has a lone surrogate, which UTF-8 cannot carry"
    if size > MAX_REASON_BYTES:
        return f"the reason has {size} bytes of UTF-8; at most {MAX_REASON_BYTES} fit"
    return None
