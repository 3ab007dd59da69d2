"""Chromium and Firefox ESR, driven by Playwright, with and without WebSocket."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Error, sync_playwright

from demo.process import CHROMIUM_FLAGS
from tests.engines.engine import REPORTED, Engine, EngineError, Visit
from tests.needs import find

#: Firefox calls home on every start, unless told not to.
FIREFOX_PREFERENCES: dict[str, Any] = {
    "network.proxy.allow_hijacking_localhost": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "services.settings.server": "data:,",
}


def launch_chromium(playwright: Any, **options: Any) -> Any:
    """Chromium, with Playwright's options."""
    return playwright.chromium.launch(
        executable_path=find("chromium"), args=CHROMIUM_FLAGS, **options
    )


def launch_firefox(playwright: Any, **options: Any) -> Any:
    """Firefox ESR, with Playwright's options."""
    preferences = dict(FIREFOX_PREFERENCES)
    proxy = options.get("proxy", {})
    if proxy and "username" not in proxy:
        # Over BiDi, Playwright's own option leaves https without the proxy.
        del options["proxy"]
        address = urlsplit(proxy["server"])
        preferences["network.proxy.type"] = 1
        for protocol in ("http", "ssl"):
            preferences[f"network.proxy.{protocol}"] = address.hostname
            preferences[f"network.proxy.{protocol}_port"] = address.port
    # The channel makes Playwright speak WebDriver BiDi, which a stock Firefox understands.
    return playwright.firefox.launch(
        executable_path=find("firefox"),
        channel="moz-firefox",
        firefox_user_prefs=preferences,
        **options,
    )


def _visit(launch: Any, websocket: bool, visit: Visit) -> None:
    options: dict[str, Any] = {}
    if visit.proxy:
        options["proxy"] = {"server": visit.proxy}
        if visit.credentials:
            user, password = visit.credentials
            options["proxy"].update(username=user, password=password)
    said: list[str] = []
    try:
        with sync_playwright() as playwright:
            browser = launch(playwright, **options)
            try:
                context = browser.new_context(ignore_https_errors=visit.insecure)
                if not websocket:
                    context.add_init_script("delete window.WebSocket")
                page = context.new_page()
                page.set_default_timeout(visit.timeout * 1000)
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.goto(visit.url)
                deadline = time.monotonic() + visit.timeout
                # Not wait_for_function: it evaluates text, which a page's policy may forbid.
                while page.title() != REPORTED:
                    if time.monotonic() > deadline:
                        raise EngineError(f"no report within {visit.timeout} s: {said[-20:]}")
                    page.wait_for_timeout(50)
            finally:
                browser.close()
    except Error as error:
        raise EngineError(f"{error.message}; the console: {said[-20:]}") from None


def _engine(name: str, title: str, needs: str, launch: Any, websocket: bool) -> Engine:
    return Engine(name, title, (needs,), websocket, lambda visit: _visit(launch, websocket, visit))


CHROMIUM = _engine("chromium", "Chromium", "chromium", launch_chromium, True)
CHROMIUM_WITHOUT = _engine(
    "chromium-without-websocket", "Chromium without WebSocket", "chromium", launch_chromium, False
)
FIREFOX = _engine("firefox", "Firefox", "firefox", launch_firefox, True)
FIREFOX_WITHOUT = _engine(
    "firefox-without-websocket", "Firefox without WebSocket", "firefox", launch_firefox, False
)
