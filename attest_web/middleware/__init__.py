"""WSGI middleware and the policies that it shares with the proxy: tokens, CORS, rate limits, client addresses."""
