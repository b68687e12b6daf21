"""What operators see: metrics, the request log and traces; and the redaction of all of them."""
