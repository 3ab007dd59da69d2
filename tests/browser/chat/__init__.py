"""A chat as tutorials have it, for a plain WebSocket: a page, and what servers say to it."""
