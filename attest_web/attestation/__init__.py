"""Attestation reports, and which TLS key they bind."""
