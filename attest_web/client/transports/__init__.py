"""The httpx transports behind the verifying clients."""
