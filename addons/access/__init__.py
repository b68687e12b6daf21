"""Access control: tokens, body limits, rate limits, connection limits, CORS and the deadlines of clients."""
