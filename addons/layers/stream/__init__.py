"""The stream of one request and its response: mitmproxy's, changed for a proxy of APIs."""
