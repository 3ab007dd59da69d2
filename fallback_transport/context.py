"""The Flask contexts that handlers run in.

A fresh application context each, and a request context of the hello's request.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from flask import Flask
from flask.ctx import AppContext
from flask.globals import _cv_app, _cv_request
from flask.signals import appcontext_popped, appcontext_pushed, appcontext_tearing_down

from .request_context import HandlerAppContext, HandlerRequestContext

_MAKE, _TEARDOWN = Flask.app_context, Flask.do_teardown_appcontext
_INIT, _PUSH, _POP = AppContext.__init__, AppContext.push, AppContext.pop


class handler_context:
    """The contexts for one call of a handler; teardown functions run after it.

    Where nobody listens, what Flask does at the begin and the end of an application context is a
    tenth of an echo: then one is put where `push` would, with what it has made on first use, and
    taken away again.
    """

    __slots__ = ("_app", "_app_context", "_context", "_environ", "_own", "_token")

    def __init__(self, app: Flask, environ: dict[str, Any]) -> None:
        self._app = app
        self._environ = environ

    def __enter__(self) -> None:
        app = self._app
        self._own = _own(app) and not appcontext_pushed.receivers
        if self._own:
            self._app_context: AppContext = HandlerAppContext(app)
            self._app_context._cv_tokens.append(_cv_app.set(self._app_context))
        else:
            self._app_context = app.app_context()
            self._app_context.push()
        self._context = HandlerRequestContext(self._app, self._environ)
        self._token = _cv_request.set(self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            try:
                # Whether the handler has used it.
                if "request" in self._context.__dict__:
                    self._app.do_teardown_request(failure)
            finally:
                _cv_request.reset(self._token)
        except BaseException as error:
            failure = error
            raise
        finally:
            context, tokens = self._app_context, self._app_context._cv_tokens
            # Whoever came meanwhile has not seen its begin, either.
            alone = self._own and len(tokens) == 1 and _cv_app.get(None) is context
            if alone and _unheard(context.app):
                _cv_app.reset(tokens.pop())
            else:
                context.pop(failure)


def _unheard(app: Flask) -> bool:
    """Whether nobody would be told of the end of an application context."""
    told = app.teardown_appcontext_funcs or appcontext_tearing_down.receivers
    return not told and not appcontext_popped.receivers


def _own(app: Flask) -> bool:
    """Whether what an application context does is Flask's own, and no subclass's or monitor's."""
    kind, own = type(app), app.__dict__
    return (
        kind.app_context is _MAKE
        and kind.do_teardown_appcontext is _TEARDOWN
        and AppContext.__init__ is _INIT
        and AppContext.push is _PUSH
        and AppContext.pop is _POP
        and "app_context" not in own
        and "do_teardown_appcontext" not in own
    )
