"""The demo: a chat on a network that can be broken by switches. `demo/run` serves it."""
