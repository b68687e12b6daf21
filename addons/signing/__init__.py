"""Signs finished exchanges and stores the signatures."""
