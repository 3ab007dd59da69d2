"""The Flask contexts that handlers run in; also pins what they use of Flask's inside."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import flask
import pytest
from blinker import NamedSignal
from flask.ctx import AppContext, RequestContext
from flask.globals import _cv_request, app_ctx
from flask_login import LoginManager, UserMixin, current_user
from werkzeug.test import EnvironBuilder

from fallback_transport.context import handler_context
from fallback_transport.request_context import (
    HandlerAppContext,
    HandlerRequestContext,
    ReadOnlySession,
)


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.secret_key = "only for tests"

    @app.get("/page/<int:number>")
    def page(number: int) -> str:
        return str(number)

    @app.get("/login")
    def login() -> str:
        flask.session["user"] = flask.request.args["user"]
        return ""

    return app


def environ_of(path: str = "/fallback/poll", **headers: Any) -> dict[str, Any]:
    environ = EnvironBuilder(path, query_string="a=1", headers=headers).get_environ()
    return {**environ, "REMOTE_ADDR": "127.0.0.1"}


def logged_in(app: flask.Flask, path: str, **more: Any) -> dict[str, Any]:
    """The environ of who has the cookie of a view."""
    response = app.test_client().get(path, environ_base=more)
    cookie = response.headers["Set-Cookie"].split(";")[0]
    return environ_of(Cookie=cookie)


class Counting(flask.Request):
    """Counts how many requests were built."""

    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        type(self).made += 1
        super().__init__(*args, **kwargs)


# -- what is there --------------------------------------------------------------------


def test_a_handler_has_the_app_and_a_fresh_g(app: flask.Flask) -> None:
    environ = environ_of()
    with handler_context(app, environ):
        assert flask.current_app == app
        assert flask.has_app_context()
        assert flask.has_request_context()
        flask.g.value = 1
    with handler_context(app, environ):
        assert "value" not in flask.g
    assert not flask.has_app_context()
    assert not flask.has_request_context()


def test_what_an_application_context_has_is_made_on_first_use(app: flask.Flask) -> None:
    class Globals(AppContext(app).g.__class__):  # type: ignore[name-defined,misc]
        made = 0

        def __init__(self) -> None:
            type(self).made += 1

    app.app_ctx_globals_class = Globals
    app.config["SERVER_NAME"] = "example.com"
    with handler_context(app, environ_of()):
        assert flask.current_app == app
        assert Globals.made == 0
        flask.g.value = 1
        assert (flask.g.value, Globals.made) == (1, 1)
        assert app_ctx.url_adapter.server_name == "example.com"
        with pytest.raises(AttributeError):
            _ = app_ctx.missing
    with handler_context(app, environ_of()):
        assert "value" not in flask.g


def test_a_handler_may_want_something_of_the_response_that_never_comes(app: flask.Flask) -> None:
    with handler_context(app, environ_of()):
        flask.after_this_request(lambda response: response)
        with flask.globals.request_ctx:
            assert flask.request.path


def test_a_handler_has_the_hellos_request(app: flask.Flask) -> None:
    with handler_context(app, environ_of(**{"User-Agent": "browser"})):
        assert flask.request.headers["User-Agent"] == "browser"
        assert flask.request.args.to_dict() == {"a": "1"}
        assert flask.request.path == "/fallback/poll"
        assert flask.request.remote_addr == "127.0.0.1"
        assert flask.request.endpoint is None
        assert flask.request.json_module is app.json


def test_the_request_is_built_when_it_is_used(app: flask.Flask) -> None:
    class Request(Counting):
        made = 0

    app.request_class = Request
    environ = environ_of()
    with handler_context(app, environ):
        assert flask.current_app.name == app.name
        assert Request.made == 0
        assert flask.request.path
        assert flask.request.path
        assert flask.session == {}
        assert Request.made == 1
    with handler_context(app, environ):
        assert flask.session == {}
        assert Request.made == 2


def test_a_handler_can_make_urls(app: flask.Flask) -> None:
    with handler_context(app, environ_of()):
        assert flask.url_for("page", number=3) == "/page/3"
        assert flask.url_for("page", number=3, _external=True) == "http://localhost/page/3"
    app.config["SERVER_NAME"] = "example.com"
    with handler_context(app, environ_of()):
        assert flask.url_for("page", number=3, _external=True) == "http://example.com/page/3"


def test_a_handler_can_render_templates(app: flask.Flask) -> None:
    template = "{{ request.args.a }} {{ session.user }} {{ url_for('page', number=3) }}"
    with handler_context(app, logged_in(app, "/login?user=ann")):
        assert flask.render_template_string(template) == "1 ann /page/3"


def test_a_host_that_no_rule_knows_is_no_failure(app: flask.Flask) -> None:
    app.url_map.host_matching = True
    environ = environ_of()
    environ["HTTP_HOST"] = "elsewhere.example"
    with handler_context(app, environ):
        assert flask.request.host == "elsewhere.example"


def test_a_host_that_is_not_trusted_is_no_failure(app: flask.Flask) -> None:
    app.config["TRUSTED_HOSTS"] = ["localhost"]
    environ = environ_of()
    environ["HTTP_HOST"] = "elsewhere.example"
    with handler_context(app, environ):
        assert flask.request.path == "/fallback/poll"


def test_background_work_can_take_the_request_along(app: flask.Flask) -> None:
    found = []
    with handler_context(app, logged_in(app, "/login?user=ann")):

        @flask.copy_current_request_context
        def work() -> None:
            found.append((flask.request.args["a"], flask.session["user"]))

    work()
    assert found == [("1", "ann")]


def test_contexts_do_not_mix(app: flask.Flask) -> None:
    other = flask.Flask("other")
    with handler_context(app, environ_of(**{"User-Agent": "one"})):
        with handler_context(other, environ_of(**{"User-Agent": "two"})):
            assert flask.current_app == other
            assert flask.request.headers["User-Agent"] == "two"
        assert flask.current_app == app
        assert flask.request.headers["User-Agent"] == "one"
        with app.test_request_context("/other"):
            assert flask.request.path == "/other"
        assert flask.request.path == "/fallback/poll"


# -- the session ----------------------------------------------------------------------


def test_the_session_is_the_hellos_to_read(app: flask.Flask) -> None:
    with handler_context(app, logged_in(app, "/login?user=ann")):
        assert flask.session["user"] == "ann"
        assert flask.session.get("other") is None
        assert "user" in flask.session
        assert dict(flask.session) == {"user": "ann"}
        assert flask.session.modified is False


@pytest.mark.parametrize(
    "write",
    [
        lambda: flask.session.__setitem__("a", 1),
        lambda: flask.session.__delitem__("user"),
        lambda: flask.session.pop("user"),
        lambda: flask.session.pop("user", None),
        lambda: flask.session.popitem(),
        lambda: flask.session.clear(),
        lambda: flask.session.update(a=1),
        lambda: flask.session.setdefault("a", 1),
        lambda: setattr(flask.session, "permanent", True),
        lambda: setattr(flask.session, "modified", True),
        lambda: flask.flash("hello"),
    ],
)
def test_writing_it_says_what_to_do(app: flask.Flask, write: Any) -> None:
    with handler_context(app, logged_in(app, "/login?user=ann")):
        with pytest.raises(RuntimeError, match=r"in a view, or keep the value in client\.data"):
            write()
        assert dict(flask.session) == {"user": "ann"}


def test_an_app_without_secret_has_an_empty_session(app: flask.Flask) -> None:
    app.secret_key = None
    with handler_context(app, environ_of()):
        assert dict(flask.session) == {}


def test_a_session_interface_of_ones_own_is_asked(app: flask.Flask) -> None:
    class Interface(flask.sessions.SessionInterface):
        def open_session(self, app: Any, request: Any) -> Any:
            return flask.sessions.SecureCookieSession({"path": request.path})

    app.session_interface = Interface()
    with handler_context(app, environ_of()):
        assert dict(flask.session) == {"path": "/fallback/poll"}


def test_the_session_has_what_an_interfaces_own_has_beside_its_values(app: flask.Flask) -> None:
    class Kept(flask.sessions.SecureCookieSession):
        """As an interface has it that keeps sessions at the server."""

        sid = "number 7"

    class Interface(flask.sessions.SessionInterface):
        def open_session(self, app: Any, request: Any) -> Any:
            return Kept({"user": "ann"})

    app.session_interface = Interface()
    with handler_context(app, environ_of()):
        assert (flask.session.sid, flask.session["user"]) == ("number 7", "ann")  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match="'Kept' object has no attribute 'nothing'"):
            _ = flask.session.nothing  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="keep the value in"):
            flask.session["user"] = "bob"


# -- flask-login ----------------------------------------------------------------------


@pytest.fixture
def login_app(app: flask.Flask) -> flask.Flask:
    manager = LoginManager(app)

    class User(UserMixin):
        def __init__(self, name: str) -> None:
            self.id = name

    manager.user_loader(User)

    @app.get("/enter")
    def enter() -> str:
        from flask_login import login_user

        login_user(User("ann"))
        return ""

    return app


def test_the_current_user_is_who_logged_in(login_app: flask.Flask) -> None:
    environ = logged_in(login_app, "/enter")
    environ["HTTP_USER_AGENT"] = login_app.test_client().environ_base["HTTP_USER_AGENT"]
    with handler_context(login_app, environ):
        assert current_user.is_authenticated
        assert current_user.get_id() == "ann"
    with handler_context(login_app, environ_of()):
        assert not current_user.is_authenticated


def test_the_current_user_may_have_moved_to_another_network(login_app: flask.Flask) -> None:
    """flask-login then notes in the session that the login is not fresh any more."""
    environ = logged_in(login_app, "/enter", REMOTE_ADDR="10.0.0.1")
    with handler_context(login_app, environ):
        assert current_user.get_id() == "ann"
        assert flask.session["_fresh"] is False


def test_a_login_that_is_bound_to_its_network_does_not_hold_in_another(
    login_app: flask.Flask,
) -> None:
    """flask-login takes all that it has noted out of the session; that is for the app to see."""
    from flask_login.config import SESSION_KEYS

    login_app.config["SESSION_PROTECTION"] = "strong"
    # With `USE_SESSION_FOR_NEXT`, that stays for whoever logs in.
    noted = dict.fromkeys(SESSION_KEYS - {"_remember"}, "")
    login_app.add_url_rule("/noted", view_func=lambda: flask.session.update(noted) or "")
    environ = logged_in(login_app, "/noted", REMOTE_ADDR="10.0.0.1")
    with handler_context(login_app, environ):
        assert not current_user.is_authenticated
        assert flask.session == {"_remember": "clear"}
    environ = logged_in(login_app, "/enter", REMOTE_ADDR="10.0.0.1")
    with handler_context(login_app, environ):
        assert not current_user.is_authenticated
        assert "_user_id" not in flask.session


def test_the_current_user_may_be_one_who_is_remembered(login_app: flask.Flask) -> None:
    """Whose session has ended: flask-login notes a new one."""
    from flask_login import encode_cookie

    with login_app.app_context():
        environ = environ_of(Cookie=f"remember_token={encode_cookie('ann')}")
    with handler_context(login_app, environ):
        assert current_user.get_id() == "ann"
        assert flask.session["_fresh"] is False


def test_logging_in_or_out_takes_a_view(login_app: flask.Flask) -> None:
    from flask_login import login_user, logout_user

    with handler_context(login_app, logged_in(login_app, "/enter")):
        with pytest.raises(RuntimeError, match="in a view"):
            logout_user()
        with pytest.raises(RuntimeError, match="in a view"):
            login_user(current_user)


# -- the end --------------------------------------------------------------------------


def test_teardown_functions_run(app: flask.Flask) -> None:
    log: list[Any] = []
    app.teardown_appcontext(lambda error: log.append(("app", error)))
    app.teardown_request(lambda error: log.append(("request", error)))
    with handler_context(app, environ_of()):
        assert flask.current_app
    assert log == [("app", None)]
    log.clear()
    with handler_context(app, environ_of()):
        assert flask.request.path
    assert log == [("request", None), ("app", None)]


def test_teardown_functions_get_the_error(app: flask.Flask) -> None:
    log: list[Any] = []
    app.teardown_appcontext(log.append)
    app.teardown_request(log.append)
    error = ValueError("a defect")

    def handle() -> None:
        with handler_context(app, environ_of()):
            assert flask.request.path
            raise error

    with pytest.raises(ValueError, match="a defect"):
        handle()
    assert log == [error, error]
    assert not flask.has_request_context()


def test_a_teardown_function_that_raises_leaves_no_context(app: flask.Flask) -> None:
    def fail(error: Any) -> None:
        raise ValueError("a defect")

    app.teardown_request(fail)
    with pytest.raises(ValueError, match="a defect"), handler_context(app, environ_of()):
        assert flask.request.path
    assert not flask.has_app_context()
    assert not flask.has_request_context()


# -- what is used of Flask's inside ---------------------------------------------------


def test_who_listens_to_flasks_signals_is_told(app: flask.Flask) -> None:
    told: list[str] = []

    def listen(signal: NamedSignal) -> AbstractContextManager[None]:
        return signal.connected_to(lambda *_, **more: told.append(signal.name), app)

    with listen(flask.appcontext_pushed), handler_context(app, environ_of()):
        assert told == ["appcontext-pushed"]
    with listen(flask.appcontext_tearing_down), handler_context(app, environ_of()):
        pass
    with listen(flask.appcontext_popped), handler_context(app, environ_of()):
        pass
    assert told == ["appcontext-pushed", "appcontext-tearing-down", "appcontext-popped"]
    assert not flask.has_app_context()


def test_what_an_application_has_overridden_is_called(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Context(AppContext):
        def push(self) -> None:
            told.append("push")
            super().push()

        def pop(self, *args: Any) -> None:
            super().pop(*args)
            told.append("pop")

    class App(flask.Flask):
        def do_teardown_appcontext(self, *args: Any) -> None:
            told.append("teardown")
            super().do_teardown_appcontext(*args)

    class Other(flask.Flask):
        def app_context(self) -> AppContext:
            told.append("made")
            return super().app_context()

    with handler_context(App("own"), environ_of()), handler_context(Other("own"), environ_of()):
        pass
    assert told == ["made", "teardown"]
    told.clear()
    own = flask.Flask("own")
    monkeypatch.setattr(own, "app_context", lambda: Context(own))
    with handler_context(own, environ_of()):
        assert told == ["push"]
    assert told == ["push", "pop"]
    told.clear()
    monkeypatch.setattr(app, "do_teardown_appcontext", told.append)
    with handler_context(app, environ_of()):
        pass
    assert told == [None]
    monkeypatch.undo()
    told.clear()
    original = AppContext.push

    def push(self: AppContext) -> None:
        told.append("watched")
        original(self)

    monkeypatch.setattr(AppContext, "push", push)
    with handler_context(app, environ_of()):
        assert told == ["watched"]


@pytest.mark.parametrize("teardown", [False, True])
def test_a_context_that_a_handler_leaves_is_named(app: flask.Flask, teardown: bool) -> None:
    if teardown:
        app.teardown_appcontext(lambda error: None)
    other = flask.Flask("other")
    with (
        pytest.raises(AssertionError, match="wrong app context"),
        handler_context(app, environ_of()),
    ):
        other.app_context().push()
    assert not flask.has_app_context()


def test_flasks_own_request_context_has_what_ours_has(app: flask.Flask) -> None:
    """A new attribute there wants a look at whether handlers miss it."""
    environ = environ_of()
    stock = RequestContext(app, dict(environ))
    ours = HandlerRequestContext(app, environ)
    assert flask.Request.__init__
    assert set(vars(stock)) == {
        "app",
        "request",
        "url_adapter",
        "flashes",
        "_session",
        "_after_request_functions",
        "_cv_tokens",
    }
    for name in vars(stock):
        assert hasattr(ours, name)
    assert set(vars(AppContext(app))) == {"app", "url_adapter", "g", "_cv_tokens"}
    for name in vars(AppContext(app)):
        assert hasattr(HandlerAppContext(app), name)
    with stock:
        assert _cv_request.get() is stock
    with pytest.raises(AttributeError):
        _ = ours.nothing


def test_a_read_only_session_is_a_session() -> None:
    assert issubclass(ReadOnlySession, flask.sessions.SessionMixin)
    # Every way to change a dict, should Python get another one.
    changing = {name for name in dir(dict) if name not in dir(frozenset) and "get" not in name}
    changing -= {"copy", "fromkeys", "items", "keys", "values", "__reversed__"}
    for name in changing | {"__ior__"}:
        assert getattr(ReadOnlySession, name) is not getattr(dict, name), name
