"""What mitmweb and the console show of an exchange: marks, comments, content views and commands."""
