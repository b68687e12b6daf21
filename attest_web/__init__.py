"""What makes proof and shows it: keys, signatures, the signature store and the pages that serve them.

Nothing in here knows of mitmproxy or of `addons`; a proof can be made and tested with no proxy in sight.
"""
