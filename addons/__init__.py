"""The proxy: mitmproxy addons, one concern each, the protocol layers, and the pure readers that they use."""
