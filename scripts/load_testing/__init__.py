"""The parts of `scripts/loadtest`."""
