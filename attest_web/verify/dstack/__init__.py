"""Parsers and checks of a dstack guest's evidence against its quote: event log, boot log, image, keys."""
