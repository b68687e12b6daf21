"""Pure HTTP: heads and their fields, request ids, this proxy's own responses, WebSocket handshakes."""
