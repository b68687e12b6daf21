"""What a client of the proxy can check, and a command that checks it: `tee-verify`.

Everything that is checked comes from the party that is being checked, so nothing here trusts the shape of any of it:
what is missing, malformed or too long makes its check fail, and no check passes by default.
"""
