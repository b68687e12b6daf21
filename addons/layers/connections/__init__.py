"""TCP and TLS connections: how they are read, how long they may last, how they are used again."""
