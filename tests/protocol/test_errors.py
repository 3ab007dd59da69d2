"""The tree of errors: what each says about whose fault it was, and what ends."""

from __future__ import annotations

import pytest

from fallback_transport.protocol import errors
from fallback_transport.protocol.codes import CloseCode


@pytest.mark.parametrize(
    ("error", "code", "fatal"),
    [
        (errors.RemoteProtocolError, CloseCode.PROTOCOL_ERROR, False),
        (errors.MalformedEnvelope, CloseCode.MALFORMED, False),
        (errors.UnsupportedVersion, CloseCode.VERSION, False),
        (errors.SequenceGap, CloseCode.PROTOCOL_ERROR, False),
        (errors.ImpossibleMark, CloseCode.PROTOCOL_ERROR, True),
    ],
)
def test_the_peers_errors_say_what_ends(
    error: type[errors.RemoteProtocolError], code: CloseCode, fatal: bool
) -> None:
    assert (error.code, error.fatal) == (code, fatal)
    assert issubclass(error, errors.RemoteProtocolError)
    assert not issubclass(error, errors.LocalProtocolError)


@pytest.mark.parametrize("kind", [errors.MalformedEnvelope, errors.SequenceGap])
def test_what_comes_again_and_again_ends_the_session_with_its_own_code(
    kind: type[errors.RemoteProtocolError],
) -> None:
    error = errors.OutOfStep(kind("why"))
    assert (error.code, error.fatal, str(error)) == (kind.code, True, "again and again: why")


@pytest.mark.parametrize("name", ["MessageRefused", "OutboxFull", "SessionOver"])
def test_the_callers_errors_are_not_the_peers(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.LocalProtocolError)
    assert not issubclass(error, errors.RemoteProtocolError)


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = errors.__doc__ or ""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    tree = [found for found in classes if issubclass(found, Exception)]
    assert len(tree) == 12
    assert all(found.__name__ in drawn for found in tree)
    assert all(issubclass(found, errors.ProtocolError) for found in tree)
