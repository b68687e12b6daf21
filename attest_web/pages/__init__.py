"""The Flask application: one module a page, and the static files of the front page."""
