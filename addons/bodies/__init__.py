"""Sans-I/O readers and transforms of bodies: server-sent events, JSON, raw bytes, and the filter that signs them."""
