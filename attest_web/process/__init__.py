"""What this process uses of the operating system: threads, sockets, memory files; and its log."""
