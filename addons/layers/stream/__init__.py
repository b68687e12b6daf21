"""One request and its response, as mitmproxy carries them, but for what a proxy for APIs does otherwise."""
