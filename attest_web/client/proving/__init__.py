"""Decides whether a response is proven: requests signatures and reports and checks them, sans-I/O."""
