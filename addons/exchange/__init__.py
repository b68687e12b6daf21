"""The one record of a request and its response, and the facts that it is made of."""
