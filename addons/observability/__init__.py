"""What operators are told: metrics, the request log, traces; and what is kept out of all of them."""
