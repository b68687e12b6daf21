"""The one record of a request and its response, and the types of its fields."""
