"""`websocket`: how what a server says is framed."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from fallback_transport.websocket import _header


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_length_is_stated_in_as_few_bytes_as_it_needs(opcode: Opcode, size: int) -> None:
    data = b"x" * size
    assert _header(opcode, size) + data == Frame(opcode, data).serialize(mask=False)
