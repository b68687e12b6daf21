"""The client of dstack's guest agent: keys, quotes, and TLS certificates."""
