"""``qtwebkit.py URL [PROXY-HOST:PORT [USER:PASSWORD]]``: opens a page, ends once it has reported.

Any certificate will do.

Run by the system's Python, for which Debian has the bindings.
"""

import os
import sys

from PyQt5.QtCore import QTimer, QUrl
from PyQt5.QtNetwork import QNetworkProxy
from PyQt5.QtWebKitWidgets import QWebPage
from PyQt5.QtWidgets import QApplication


class Page(QWebPage):
    def javaScriptConsoleMessage(self, text, line, source):
        print(f"console: {text} {source}:{line}", flush=True)


app = QApplication(sys.argv)
if len(sys.argv) > 2:
    host, _, port = sys.argv[2].partition(":")
    proxy = QNetworkProxy(QNetworkProxy.HttpProxy, host, int(port))
    if len(sys.argv) > 3:
        user, _, password = sys.argv[3].partition(":")
        proxy.setUser(user)
        proxy.setPassword(password)
    QNetworkProxy.setApplicationProxy(proxy)
page = Page()
page.networkAccessManager().sslErrors.connect(lambda reply, _: reply.ignoreSslErrors())
frame = page.mainFrame()


def look() -> None:
    if frame.title() == "reported":
        # Qt's own way out crashes now and then.
        sys.stdout.flush()
        os._exit(0)


timer = QTimer()
timer.timeout.connect(look)
timer.start(50)
frame.load(QUrl(sys.argv[1]))
app.exec_()
