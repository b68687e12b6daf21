"""The one record of a request and its response, and what it is made of."""
