"""HTTP/1 to clients and to upstreams (RFC 9112)."""
