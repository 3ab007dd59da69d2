"""The demo's Flask part: a chat with pictures, cursors and a ticker. `demo/run` serves it."""

import itertools
import threading

from flask import Flask, render_template

from fallback_transport import FallbackTransport, Session

app = Flask(__name__)
transport = FallbackTransport()  # demo/__main__.py chooses the async mode and calls init_app
here: dict[str, Session] = {}
recent: list[dict] = []
lock = threading.RLock()


@app.get("/")
def page() -> str:
    return render_template("page.html")


@transport.on_connect
def enter(client: Session) -> None:
    name = (client.auth or {}).get("name", "a Socket.IO client")
    with lock:
        client.data.update(name=str(name)[:24], sent=1, handled=0, equal=None)
        here[client.id] = client
        client.join("chat")
        client.emit("recent", list(recent))


@transport.on_disconnect
def leave(client: Session, code: int, reason: str) -> None:
    here.pop(client.id, None)


@transport.on_message("say")
def say(client: Session, text: str) -> None:
    publish(client, text=str(text)[:500])


@transport.on_message("picture")
def picture(client: Session, image: dict) -> None:
    publish(client, text=str(image["name"])[:100], picture=bytes(image["bytes"][:400_000]))


@transport.on_message("cursor")
def cursor(client: Session, place: list[int]) -> None:
    tell("cursor", [client.id, int(place[0]), int(place[1])], by=client, skip=client)


@transport.on_message("report")
def report(client: Session, about: dict) -> int:
    client.data.update(name=str(about["name"])[:24], equal=bool(about["equal"]))
    client.data["handled"] += 1
    return client.data["handled"]  # the reply: as many as the page has sent up to here


def publish(client: Session, **item: str | bytes) -> None:
    with lock:
        recent[:] = [*recent[-11:], {"who": client.id, "name": client.data["name"], **item}]
        tell("said", recent[-1], by=client)


def tell(name: str, data: object, by: Session | None = None, skip: Session | None = None) -> None:
    with lock:
        for client in list(here.values()):
            client.data["sent"] += client is not skip
            client.data["handled"] += client is by
        transport.emit(name, data, to="chat", skip=skip)


def tick() -> None:
    for number in itertools.count(1):
        for tenth in range(10):
            transport.server.sleep(0.1)
            transport.emit("ticker", 10 * number + tenth, to="chat", latest="ticker")
        with lock:
            people = [{"id": c.id, "transport": c.transport, **c.data} for c in list(here.values())]
            tell("tick", {"number": number, "people": people})
