"""Metrics, the request log and traces, and the redaction of the log."""
