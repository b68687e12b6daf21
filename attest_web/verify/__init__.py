"""The checks of a client of the proxy, and the command that makes them: `tee-verify`.

All input comes from the party that is being checked, so nothing here trusts its shape: what is missing, malformed or
too long makes its check fail, and no check passes by default.
"""
