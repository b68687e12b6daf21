"""Decides whether a response is proven: fetches signatures and reports and checks them, without I/O of its own."""
