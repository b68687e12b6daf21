"""What is asked of each request before a page or an upstream answers: tokens, CORS, rate limits."""
