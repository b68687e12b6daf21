"""The table of endpoints, and which of them a request is for."""
