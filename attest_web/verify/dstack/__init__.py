"""What dstack's guests say of themselves, read and held against the quote: event log, boot log, image, keys."""
