"""The Flask contexts of a handler, of which nothing is built before something asks for it.

Building a request always would cost more than the rest of an echo.
"""

from __future__ import annotations

from typing import Any, NoReturn

from flask import Flask
from flask.ctx import AppContext, RequestContext
from flask.sessions import SecureCookieSession, SessionMixin
from werkzeug.exceptions import HTTPException

#: What Flask-Login notes, by itself, as it makes `current_user`: of a user whom it remembers, or
#: whose address has changed; and what it takes away of a login that is bound to an address.
_NOTED = frozenset({"_user_id", "_fresh", "_remember"})
_DISTRUSTED = _NOTED | {"_id", "_remember_seconds", "next"}


class ReadOnlySession(SecureCookieSession):
    """The Flask session as the hello's request had it; writing raises.

    No response follows a handler, so that nothing could carry the cookie back.
    """

    _opened: SessionMixin | None = None

    def __init__(self, opened: SessionMixin | None) -> None:
        super().__init__(opened or {})
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        """What the interface's own has beside its values, as the `sid` of Flask-Session's."""
        return getattr(self._opened, name)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            "flask.session cannot be written in a message handler: no response follows that "
            "could carry the cookie; write it in a view, or keep the value in client.data"
        )

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in _NOTED:
            self._refuse()
        dict.__setitem__(self, key, value)

    def pop(self, key: str, *default: Any) -> Any:
        """Take away what Flask-Login may, or what is not there; `logout_user` has no default."""
        if not default or (key in self and key not in _DISTRUSTED):
            self._refuse()
        return dict.pop(self, key, *default)

    @property
    def modified(self) -> bool:
        """Never; who says so has changed a list in it, perhaps, and wants that kept."""
        return False

    @modified.setter
    def modified(self, modified: bool) -> None:
        if modified:
            self._refuse()

    __delitem__ = _refuse
    clear = popitem = setdefault = update = _refuse
    __ior__ = _refuse


class HandlerAppContext(AppContext):
    """An application context whose `g` and URL adapter are made on first use."""

    def __init__(self, app: Flask) -> None:
        # Not the base class's; the attributes are the same.
        self.app = app
        self._cv_tokens = []

    def __getattr__(self, name: str) -> Any:
        if name == "g":
            self.g = self.app.app_ctx_globals_class()
        elif name == "url_adapter":
            self.url_adapter = self.app.create_url_adapter(None)
        else:
            raise AttributeError(name)
        return self.__dict__[name]


class HandlerRequestContext(RequestContext):
    """A request context whose request and session are built on first use."""

    flashes = None
    _session = None

    def __init__(self, app: Flask, environ: dict[str, Any]) -> None:
        # Not the base class's, which would build everything now; the attributes are the same.
        self.app = app
        self._environ = environ

    def __getattr__(self, name: str) -> Any:
        if name in ("_after_request_functions", "_cv_tokens"):
            self.__dict__[name] = []
            return self.__dict__[name]
        if name not in ("request", "url_adapter"):
            raise AttributeError(name)
        request = self.app.request_class(self._environ)
        request.json_module = self.app.json
        self.request = request
        self.url_adapter = None
        try:
            self.url_adapter = self.app.create_url_adapter(request)
        except HTTPException as error:
            request.routing_exception = error
        if self.url_adapter is not None:
            self.match_request()
        if request.routing_exception is not None:
            # No view is at the session's door; the frames in there would hold on to the session.
            request.routing_exception.__context__ = None
            request.routing_exception = request.routing_exception.with_traceback(None)
        return self.__dict__[name]

    def copy(self) -> RequestContext:
        """For work beside the handler, see `flask.copy_current_request_context`."""
        return RequestContext(self.app, self._environ, self.request, self.session)

    @property
    def session(self) -> SessionMixin:
        """The Flask session, to read."""
        if self._session is None:
            opened = self.app.session_interface.open_session(self.app, self.request)
            self._session = ReadOnlySession(opened)
        return self._session
