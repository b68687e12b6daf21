"""The parts of `scripts/mutate`: known mistakes, put in one at a time, and the tests that have to catch them."""
