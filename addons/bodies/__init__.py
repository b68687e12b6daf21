"""The pipelines of bodies, sans-I/O: transforms, digests, readers of events and JSON, and the filter that signs."""
