"""Errors of the protocol, one tree.

::

    ProtocolError               this side or the peer broke a rule
    ├── RemoteProtocolError     the peer did; carries the close code to answer with
    │   ├── MalformedEnvelope   bytes that are no envelope        (4400)
    │   ├── UnsupportedVersion  a hello of another version        (4426)
    │   ├── SequenceGap         messages before these are missing (1002)
    │   ├── OutOfStep           either, again and again           (its code)
    │   ├── ImpossibleMark      an ack of what was never sent     (1002)
    │   └── MessageTooLarge     a message beyond the grant        (4413)
    └── LocalProtocolError      the caller did; nothing was changed
        ├── MessageRefused      cannot be sent: not encodable, or too large
        ├── OutboxFull          cannot be sent: too much is unconfirmed
        └── SessionOver         cannot be sent: the session is closing or closed
"""

from __future__ import annotations

from .codes import CloseCode


class ProtocolError(Exception):
    """Base of all errors of this package's protocol core."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule.

    ``code`` is the close code to answer with; ``fatal`` says whether the whole
    session ends (the peer's arithmetic cannot be trusted) or only the
    connection that it came on (the network may have done it).
    """

    code = CloseCode.PROTOCOL_ERROR
    fatal = False


class MalformedEnvelope(RemoteProtocolError):
    """Bytes that are no envelope: cut, altered, or never ours."""

    code = CloseCode.MALFORMED


class UnsupportedVersion(RemoteProtocolError):
    """A hello of a protocol version that is not spoken here."""

    code = CloseCode.VERSION


class SequenceGap(RemoteProtocolError):
    """Messages start beyond the next one expected: some are missing."""


class OutOfStep(RemoteProtocolError):
    """However often the session resumes, what comes does not follow what is here.

    What one of the ends knows was altered on the way: a mark, or the first part of a message.

    Args:
        error: what was to be raised once more; its code is kept.
    """

    fatal = True

    def __init__(self, error: RemoteProtocolError) -> None:
        super().__init__(f"again and again: {error}")
        self.code = error.code


class ImpossibleMark(RemoteProtocolError):
    """An acknowledgement of a message that was never sent."""

    fatal = True


class MessageTooLarge(RemoteProtocolError):
    """A message larger than what was granted; it would come again and again."""

    code = CloseCode.TOO_LARGE
    fatal = True


class LocalProtocolError(ProtocolError):
    """The caller asked for what the session cannot do; nothing was changed."""


class MessageRefused(LocalProtocolError):
    """The message cannot be sent by this session at all."""


class OutboxFull(LocalProtocolError):
    """Too much is unconfirmed already; the bound is in the text."""


class SessionOver(LocalProtocolError):
    """The session is closing or closed."""
