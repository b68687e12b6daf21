"""Who may come in, with how much and for how long: tokens, body limits, rate limits, CORS, deadlines."""
