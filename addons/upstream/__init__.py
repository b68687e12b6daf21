"""Where requests go, when they are sent again, which connections are kept, and how upstream errors are passed on."""
