"""What this process asks of the operating system: threads, sockets, memory files; and its log."""
