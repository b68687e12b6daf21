"""The process: its limits, its TLS key, its context as a worker, and its graceful stop."""
