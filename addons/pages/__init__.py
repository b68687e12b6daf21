"""The pages of attest_web, on the proxied port and on the side port."""
