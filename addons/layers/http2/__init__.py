"""HTTP/2 to clients (RFC 9113)."""
