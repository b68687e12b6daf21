"""What watches the traffic: mitmproxy addons, one concern each, and the pure readers that they use."""
