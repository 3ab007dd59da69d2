"""One session between a browser and a Flask app, over WebSocket or long polling."""

from .engine import RequestFailed
from .extension import FallbackTransport
from .handlers import Handlers
from .session import ConnectionRefused, Session
from .version import __version__ as __version__

__all__ = ["ConnectionRefused", "FallbackTransport", "Handlers", "RequestFailed", "Session"]
