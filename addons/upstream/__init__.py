"""The choice of upstreams, retries, keep-alive connections, the upstream probe, and upstream errors."""
