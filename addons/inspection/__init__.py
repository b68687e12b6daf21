"""What mitmweb and the console show of an exchange."""
