"""Decides which events of a stream are released before the stream is proven."""
