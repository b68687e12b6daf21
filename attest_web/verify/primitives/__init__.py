"""The base of all checks: the outcome of a check, strict parsers of JSON, quotes and signatures, an HTTP client."""
