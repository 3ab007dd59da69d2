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

from .request_context import HandlerRequestContext

_PUSH, _POP, _TEARDOWN = AppContext.push, AppContext.pop, Flask.do_teardown_appcontext


class handler_context:
    """The contexts for one call of a handler; teardown functions run after it.

    Where nobody listens, Flask's own calls at the begin and the end of an application context
    are a tenth of an echo: then it is put where `push` would, and taken away again.
    """

    __slots__ = ("_app", "_app_context", "_context", "_environ", "_own", "_token")

    def __init__(self, app: Flask, environ: dict[str, Any]) -> None:
        self._app = app
        self._environ = environ

    def __enter__(self) -> None:
        context = self._app_context = self._app.app_context()
        own = self._own = _own(context)
        if appcontext_pushed.receivers or not own:
            context.push()
        else:
            context._cv_tokens.append(_cv_app.set(context))
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
            if alone and _unheard(context):
                _cv_app.reset(tokens.pop())
            else:
                context.pop(failure)


def _unheard(context: AppContext) -> bool:
    """Whether nobody would be told of the end of an application context."""
    told = context.app.teardown_appcontext_funcs or appcontext_tearing_down.receivers
    return not told and not appcontext_popped.receivers


def _own(context: AppContext) -> bool:
    """Whether what it does is Flask's own, and no subclass's or monitor's."""
    app = context.app
    return (
        type(context) is AppContext
        and AppContext.push is _PUSH
        and AppContext.pop is _POP
        and type(app).do_teardown_appcontext is _TEARDOWN
        and "do_teardown_appcontext" not in app.__dict__
    )
