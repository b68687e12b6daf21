"""HTTP/1 to clients and upstreams (RFC 9112)."""
