"""The inference servers: where requests go, which may be sent again, and what upstream errors are made of."""
