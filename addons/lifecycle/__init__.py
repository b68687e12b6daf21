"""The process: its limits, its TLS key, its place among workers, and its graceful end."""
