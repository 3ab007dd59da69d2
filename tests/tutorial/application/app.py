"""A chat with a login, rooms, an admins' channel, files and a clock, written for Flask-SocketIO.

python app.py                      # or flask run, gunicorn, …; ASYNC_MODE and PORT choose
"""

import hashlib
import os
from threading import Lock

mode = os.environ.get("ASYNC_MODE", "threading")
if mode == "eventlet":
    import eventlet

    eventlet.monkey_patch()
elif mode == "gevent":
    from gevent import monkey

    monkey.patch_all()

from flask import Flask, redirect, render_template, request  # noqa: E402 - what is patched
from flask_login import LoginManager, UserMixin, current_user, login_user  # noqa: E402
from flask_socketio import (  # noqa: E402
    ConnectionRefusedError,
    Namespace,
    SocketIO,
    emit,
    join_room,
    leave_room,
    rooms,
)

app = Flask(__name__)
app.config["SECRET_KEY"] = "secret!"
login_manager = LoginManager(app)
socketio = SocketIO(app, async_mode=mode)

clock = None
clock_lock = Lock()


class User(UserMixin):
    def __init__(self, name):
        self.id = name


@login_manager.user_loader
def load_user(name):
    return User(name)


@app.route("/")
def index():
    return render_template("index.html")


@app.route("/login", methods=["POST"])
def login():
    login_user(User(request.form["name"]))
    return redirect("/")


def tick():
    """The background thread."""
    number = 0
    while True:
        socketio.sleep(0.5)
        number += 1
        socketio.emit("tick", number)


@socketio.on("connect")
def connected():
    global clock
    if not current_user.is_authenticated:
        raise ConnectionRefusedError("log in first")
    with clock_lock:
        if clock is None:
            clock = socketio.start_background_task(tick)
    emit("welcome", current_user.id)


@socketio.on("disconnect")
def disconnected():
    app.logger.warning("%s has left", current_user.id)


@socketio.on("join")
def join(room):
    join_room(room)
    emit("joined", {"who": current_user.id, "room": room}, to=room)


@socketio.on("leave")
def leave(room):
    leave_room(room)
    emit("left", {"who": current_user.id, "room": room}, to=room)


@socketio.on("say")
def say(message):
    if message["room"] not in rooms():
        raise ValueError("enter the room first")
    emit("said", {"who": current_user.id, "text": message["text"]}, to=message["room"])


@socketio.on("upload")
def upload(content):
    emit("stored", {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()})


@socketio.on("download")
def download(size):
    emit("file", bytes(number % 256 for number in range(size)))


@socketio.on("whoami")
def whoami():
    emit("you", {"name": current_user.id, "sid": request.sid, "rooms": sorted(rooms())})


class Admins(Namespace):
    def on_connect(self):
        if not current_user.is_authenticated:
            raise ConnectionRefusedError("log in first")
        emit("welcome", current_user.id)

    def on_announce(self, text):
        emit("announced", {"who": current_user.id, "text": text}, broadcast=True)


socketio.on_namespace(Admins("/admin"))

if __name__ == "__main__":
    socketio.run(app, port=int(os.environ.get("PORT", "5000")), allow_unsafe_werkzeug=True)
