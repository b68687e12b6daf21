"""Signature stores that several processes or machines share."""
