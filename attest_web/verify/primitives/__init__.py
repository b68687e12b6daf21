"""What all checks build on: the outcome of a check, strict readers of JSON, quotes and signatures, an HTTP client."""
