"""The `tee-signer` program: mitmproxy's proxy in a master of its own, workers and their supervisor."""
