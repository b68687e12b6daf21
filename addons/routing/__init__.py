"""Which endpoint a request is for, and what is done at it."""
