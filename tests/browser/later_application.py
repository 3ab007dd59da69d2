"""The server of the browser tests as a later version of the protocol would have it."""

from __future__ import annotations

from fallback_transport.protocol import codec
from tests.browser import application

if __name__ == "__main__":
    codec.VERSION = 2
    application.main()
