"""The WebSocket interface's server and the script of its page."""
