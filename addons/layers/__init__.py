"""The protocol engine, made by subclassing mitmproxy's layers."""
