"""`{{ fallback_transport() }}` in templates."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import flask
import pytest

from fallback_transport import FallbackTransport
from fallback_transport.files import SCRIPT, folder


class Scripts(HTMLParser):
    """The attributes of each script element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append(dict(attrs))


def make_app(**options: Any) -> flask.Flask:
    app = flask.Flask(__name__)
    app.testing = True
    FallbackTransport(app, async_mode="threading", **options)

    @app.get("/")
    def page() -> str:
        template = flask.request.args.get("template", "{{ fallback_transport() }}")
        if "nonce" in flask.request.args:
            flask.g.csp_nonce = flask.request.args["nonce"]
        return flask.render_template_string(template)

    return app


def script(app: flask.Flask, template: str = "{{ fallback_transport() }}", **get: Any) -> Any:
    nonce = get.pop("nonce", None)
    query = {"template": template, **({"nonce": nonce} if nonce else {})}
    response = app.test_client().get("/", query_string=query, **get)
    (found,) = Scripts(response.text).found
    return found


def test_it_loads_the_file_in_this_version() -> None:
    found = script(make_app())
    assert re.fullmatch(rf"/fallback/{SCRIPT}\?v=[0-9a-f]{{16}}", found["src"])
    digest = hashlib.sha384((folder() / SCRIPT).read_bytes()).digest()
    assert found["integrity"] == "sha384-" + base64.b64encode(digest).decode()
    assert found["data-url"] == "/fallback"
    assert "crossorigin" in found
    assert "nonce" not in found


def test_the_file_is_there_to_be_kept() -> None:
    app = make_app()
    response = app.test_client().get(script(app)["src"])
    assert response.data == (folder() / SCRIPT).read_bytes()
    assert "immutable" in response.headers["Cache-Control"]


def test_below_a_prefix() -> None:
    found = script(make_app(), base_url="http://localhost/app")
    assert found["src"].startswith("/app/fallback/")
    assert found["data-url"] == "/app/fallback"


def test_another_mount() -> None:
    app = make_app(path=("/chat", "/"))
    assert script(app)["data-url"] == "/chat"
    root = script(app, "{{ fallback_transport('/') }}")
    assert (root["data-url"], root["src"].split("?")[0]) == ("/", f"/{SCRIPT}")
    with pytest.raises(ValueError, match="'/other' is no mount of this application"):
        script(app, "{{ fallback_transport('/other') }}")


def test_two_transports_of_one_application() -> None:
    app = make_app()
    FallbackTransport(app, async_mode="threading", path="/second", socketio_path="/sio")
    assert script(app)["data-url"] == "/fallback"
    assert script(app, "{{ fallback_transport('/second') }}")["data-url"] == "/second"


def test_the_pages_nonce() -> None:
    app = make_app()
    assert script(app, nonce='"x>')["nonce"] == '"x>'
    assert script(app, "{{ fallback_transport(nonce='y') }}", nonce="x")["nonce"] == "y"


def test_flask_talismans_nonce() -> None:
    app = make_app()

    @app.before_request
    def talisman() -> None:
        flask.request.csp_nonce = "z"  # type: ignore[attr-defined]

    assert script(app)["nonce"] == "z"


def test_without_a_request() -> None:
    app = make_app()
    with app.app_context():
        (found,) = Scripts(flask.render_template_string("{{ fallback_transport() }}")).found
    assert found["data-url"] == "/fallback"
