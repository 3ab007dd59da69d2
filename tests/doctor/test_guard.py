"""The option `doctor`: for everybody, for nobody, or as the application says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flask
import pytest
from werkzeug.serving import make_server

from fallback_transport import FallbackTransport
from fallback_transport.doctor import terminal
from fallback_transport.doctor.examination import Examination, NoDoctor
from fallback_transport.doctor.findings import HEADER, diagnose
from fallback_transport.doctor.route import Route

RUN = "a-run-of-the-tests"


class Site:
    """An app with the option, and a browser that asks it."""

    def __init__(self, **options: Any) -> None:
        self.app = flask.Flask("site")
        self.app.secret_key = "only for tests"
        FallbackTransport(self.app, async_mode="threading", **options)
        self.browser = self.app.test_client()

    def poll(self, what: str = "begin", run: str = RUN) -> Any:
        body = json.dumps({"run": run, "number": 1, "do": what})
        return self.browser.post("/fallback/doctor/poll", data=body, content_type="text/plain")


PATHS = ("", "/doctor.js", "/findings.json", "/poll", "/ws", "/nothing")


@pytest.mark.parametrize("path", PATHS)
def test_for_nobody(path: str) -> None:
    assert Site(doctor=False).browser.get("/fallback/doctor" + path).status_code == 404
    app = flask.Flask("site")
    app.config["FALLBACK_TRANSPORT_DOCTOR"] = False
    FallbackTransport(app, async_mode="threading")
    assert app.test_client().get("/fallback/doctor" + path).status_code == 404


def test_for_everybody() -> None:
    site = Site()
    findings = site.browser.get("/fallback/doctor/findings.json")
    assert findings.status_code == 200
    assert findings.content_type == "application/json; charset=utf-8"
    assert {"code", "about", "severity", "text"} == set(findings.json[0])
    answer = site.poll()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Content-Encoding" not in answer.headers
    assert site.browser.get("/fallback/doctor/poll").status_code == 405
    assert site.browser.get("/fallback/doctor/nothing").status_code == 404
    assert site.browser.get(f"/fallback/doctor/ws?run={RUN}&plain").status_code == 426


def test_no_page_of_another_site_has_it_in_a_frame() -> None:
    """It begins at once, as the user who is logged in; and its buttons could lie under others."""
    policy = Site().browser.get("/fallback/doctor").headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in policy.split("; ")


def test_answers_are_never_compressed_here() -> None:
    body = json.dumps({"run": RUN, "number": 1, "do": "give", "bytes": 50_000})
    headers = {"Accept-Encoding": "gzip"}
    answer = Site().browser.post("/fallback/doctor/poll", data=body, headers=headers)
    assert len(answer.data) == 50_000
    assert "Content-Encoding" not in answer.headers


def test_a_foreign_page_is_refused() -> None:
    site = Site()
    headers = {"Origin": "https://evil.test"}
    for path in ("", "/findings.json", f"/ws?run={RUN}"):
        answer = site.browser.get("/fallback/doctor" + path, headers=headers)
        assert answer.status_code == 403
    assert site.browser.post("/fallback/doctor/poll", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("says", "status", "text"),
    [
        (False, 403, "not allowed\n"),
        (None, 403, "not allowed\n"),
        ("", 403, "not allowed\n"),
        ("log in first", 200, "log in first"),
        (("log in first", 401), 401, "log in first"),
    ],
    ids=repr,
)
def test_as_the_application_says(says: Any, status: int, text: str) -> None:
    site = Site(doctor=lambda: says)
    for answer in (
        site.browser.get("/fallback/doctor"),
        site.poll(),
        site.browser.get(f"/fallback/doctor/ws?run={RUN}"),
    ):
        assert (answer.status_code, answer.text) == (status, text)


def test_the_application_aborts_or_redirects() -> None:
    assert Site(doctor=lambda: flask.abort(401)).poll().status_code == 401
    answer = Site(doctor=lambda: flask.redirect("/login")).browser.get("/fallback/doctor")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login")


def test_what_it_raises_is_answered_as_a_views_is() -> None:
    class NotSupport(Exception):
        pass

    def guard() -> bool:
        raise NotSupport

    site = Site(doctor=guard)
    with pytest.raises(NotSupport):
        site.poll()
    site.app.register_error_handler(NotSupport, lambda error: ("only for support", 401))
    assert (site.poll().status_code, site.poll().text) == (401, "only for support")


def test_what_it_notes_in_the_session_reaches_the_login() -> None:
    def guard() -> Any:
        flask.flash("Please log in.")
        flask.session["next"] = flask.request.path
        return flask.redirect("/login")

    site = Site(doctor=guard)

    @site.app.get("/login")
    def login() -> Any:
        return [*flask.get_flashed_messages(), flask.session["next"]]

    assert site.browser.get("/fallback/doctor").status_code == 302
    assert site.browser.get("/login").json == ["Please log in.", "/fallback/doctor"]


def test_it_sees_the_request_and_its_login() -> None:
    asked = []

    def guard() -> bool:
        asked.append(flask.request.path)
        return flask.session.get("user") == "me"

    site = Site(doctor=guard)
    assert site.poll().status_code == 403
    with site.browser.session_transaction() as session:
        session["user"] = "me"
    assert site.poll().status_code == 200
    # A run that has begun goes on, though the network may drop its cookies.
    with site.browser.session_transaction() as session:
        del session["user"]
    assert site.poll("echo").status_code == 200
    assert site.poll("begin", "another-run-of-the-tests").status_code == 403
    assert asked == ["/fallback/doctor/poll"] * 3


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}], ids=str)
def test_nobody_is_logged_out_by_a_link_of_another_site(headers: dict[str, str]) -> None:
    """Where the guard sees no cookies, what it notes is not to be the user's session."""

    def guard() -> Any:
        if "user" in flask.session:
            return True
        flask.flash("Please log in.")
        return flask.redirect("/login")

    site = Site(origins="null", doctor=guard)
    with site.browser.session_transaction() as session:
        session["user"] = "me"
    body = json.dumps({"run": RUN, "number": 1, "do": "begin"})
    asked = site.browser.get(f"/fallback/doctor/ws?run={RUN}", headers=headers)
    posted = site.browser.post("/fallback/doctor/poll", data=body, headers=headers)
    with site.browser.session_transaction() as session:
        assert session.get("user") == "me"
    assert asked.status_code == posted.status_code == 403


@pytest.mark.parametrize("origins", [(), "*", "null"])
def test_no_run_begins_in_the_name_of_who_visits_another_site(origins: Any) -> None:
    """Who has made it begin knows its name, and would go on with it without a login."""
    site = Site(origins=origins, doctor=lambda: flask.session.get("user") == "me")
    with site.browser.session_transaction() as session:
        session["user"] = "me"

    def begins(headers: dict[str, str]) -> bool:
        run = f"the-run-of-{hash(str(headers)):x}".ljust(20, "-")
        body = json.dumps({"run": run, "number": 1, "do": "begin"})
        site.browser.get(f"/fallback/doctor/ws?run={run}&plain", headers=headers)
        site.browser.post("/fallback/doctor/poll", data=body, headers=headers)
        stranger = site.app.test_client()
        return bool(stranger.post("/fallback/doctor/poll", data=body).status_code == 200)

    # An image, a form of a sandbox, a script: whatever the browser is made to ask by.
    assert not begins({"Sec-Fetch-Site": "cross-site"})
    assert not begins({"Sec-Fetch-Site": "same-site"})
    assert not begins({"Origin": "null"})
    assert not begins({"Origin": "https://evil.test"})
    assert begins({"Origin": "http://localhost"})
    assert begins({"Sec-Fetch-Site": "same-origin"})
    assert begins({})


@pytest.mark.parametrize("value", ["yes", 1, None, 0])
def test_another_value_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="doctor must be True, False or a function"):
        Site(doctor=value)


class Balancer:
    """In front of a site, as one that tells its clients by a cookie: those that came, by path."""

    def __init__(self, site: Any) -> None:
        self._site = site
        self.came: list[tuple[str, str | None]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.came.append((environ["PATH_INFO"], environ.get("HTTP_COOKIE")))

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [("Set-Cookie", "where=a; Path=/"), *headers], *more)

        return self._site(environ, start)


@pytest.fixture
def balancer() -> Balancer:
    """A site that asks for a header."""
    return Balancer(Site(doctor=lambda: flask.request.headers.get("X-Login") == "me").app)


@contextmanager
def listening(application: Any) -> Iterator[str]:
    """A site on a port; where its mount is."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/fallback"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def served(balancer: Balancer) -> Iterator[str]:
    """It on a port."""
    with listening(balancer) as url:
        yield url


@pytest.mark.integration
def test_the_terminal_logs_in_by_a_header(served: str) -> None:
    with pytest.raises(NoDoctor, match=r"does not let you in \(status 403\): give the cookie"):
        Examination(Route(served), 0.1).observe()
    known = diagnose(Examination(Route(served), 0.1, {"X-Login": "me"}).observe())
    assert known.codes == ["ws-ok", "poll-ok"]


@pytest.mark.parametrize("answer", ["/login", 401, 404])
def test_what_it_says_to_a_run_is_known_for_the_applications(answer: Any) -> None:
    def guard() -> Any:
        return flask.redirect(answer) if answer == "/login" else flask.abort(answer)

    site = Site(doctor=guard)
    for told in (site.poll(), site.browser.get(f"/fallback/doctor/ws?run={RUN}")):
        # One that says 404 hides its doctor.
        assert told.headers.get(HEADER) == (None if answer == 404 else "1")


@pytest.mark.integration
def test_a_report_has_no_cookies_and_no_login(
    served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for login, status in (("me", 0), ("me, secret", terminal.NOTHING)):
        given = ("--header", f"X-Login: {login}", "--header", "Cookie: mine=secret")
        found = terminal.main(["doctor", served, "--json", "--idle", "0.1", *given])
        printed, told = capsys.readouterr()
        assert found == status
        assert not printed or json.loads(printed)["observations"]["websocket"]["status"] == 101
        assert "secret" not in printed + told
        assert "where" not in printed + told


@pytest.mark.integration
def test_the_terminal_keeps_all_cookies_in_one_header(served: str, balancer: Balancer) -> None:
    headers = {"X-Login": "me", "cookie": "mine=1; where=b"}
    assert diagnose(Examination(Route(served), 0.1, headers).observe()).codes == [
        "ws-ok",
        "poll-ok",
    ]
    (_, first), *later = balancer.came
    assert first == "mine=1; where=b"
    assert {path for path, _ in later} == {"/fallback/doctor/poll", "/fallback/doctor/ws"}
    assert {cookie for _, cookie in later} == {"mine=1; where=a; fallback_transport_doctor=1"}


@pytest.mark.integration
def test_a_site_that_sends_to_its_https_is_no_login_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = "https://127.0.0.1:8443/fallback"

    def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("301 Moved", [("Location", place)])
        return []

    with listening(site) as url:
        assert terminal.main(["doctor", url]) == 3
        assert f"examine {place}\n" in capsys.readouterr().err
        place = "https://127.0.0.1.test/login"
        found = diagnose(Examination(Route(url), 0.1).observe())
        assert found.codes == ["ws-refused", "login-page"]


def test_the_servers_own_refusals_are_the_doctors_answers() -> None:
    site = Site(max_body=20_000)
    refused = [
        site.browser.post("/fallback/doctor/poll", headers={"Origin": "https://evil.test"}),
        site.browser.post("/fallback/doctor/poll", data=b"x" * 20_001),
        site.browser.post("/fallback/doctor/poll", headers={"Transfer-Encoding": "chunked"}),
    ]
    assert [answer.status_code for answer in refused] == [403, 413, 411]
    for answer, why in zip(refused, ("origin", "20000 bytes", "length"), strict=True):
        line, _, rest = answer.data.partition(b"\n")
        assert why in json.loads(line)["error"]
        assert rest == b"."
        assert answer.headers["X-Fallback-Transport-Doctor"] == "1"


@pytest.mark.integration
def test_a_proxy_that_changes_the_host_is_not_called_a_login_page() -> None:
    site = Site().app

    def proxy(environ: dict[str, Any], start_response: Any) -> Any:
        return site({**environ, "HTTP_HOST": "backend.internal"}, start_response)

    with listening(proxy) as url:
        found = diagnose(Examination(Route(url), 0.1).observe())
    assert found.codes == ["ws-server-refused", "poll-refused"]
    assert found.findings[1].data == {"status": 403, "why": "this origin is not allowed"}


@pytest.mark.integration
def test_what_the_server_itself_does_not_take_is_no_limit_of_the_network() -> None:
    with listening(Site(max_body=100_000).app) as url:
        seen = Examination(Route(url), 0.1).observe()
    assert seen["polling"]["body"] == {"passed": 64_000, "refused": None, "status": None}
    assert diagnose(seen).codes == ["ws-ok", "poll-ok"]


@pytest.mark.integration
@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
def test_a_network_that_takes_no_post_is_no_wrong_address(status: str) -> None:
    site = Site().app

    def proxy(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "POST":
            start_response(status, [("Content-Type", "text/html"), ("Content-Length", "0")])
            return []
        return site(environ, start_response)

    with listening(proxy) as url:
        seen = Examination(Route(url), 0.1).observe()
    assert seen["polling"]["refused"] is None
    assert diagnose(seen).codes == ["ws-ok", "login-page"]
