"""One session between a browser and a Flask app, over WebSocket or long polling."""

from .extension import FallbackTransport
from .failures import RequestFailed
from .handlers import Handlers
from .session import ConnectionRefused, Session
from .version import __version__ as __version__

__all__ = ["ConnectionRefused", "FallbackTransport", "Handlers", "RequestFailed", "Session"]
