"""TCP and TLS connections: reading, deadlines, and the reuse of upstream connections."""
