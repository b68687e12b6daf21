"""Which events of a stream may be read before the stream is proven."""
