"""Wire formats of the session's events: pure, and shared by servers and clients."""
