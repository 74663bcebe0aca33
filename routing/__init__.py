"""Which model answers, and where it runs."""
