"""Makes and serves proofs: keys, signatures, the signature store and the pages.

Nothing in it imports mitmproxy or `addons`: proofs can be made and tested without a proxy.
"""
