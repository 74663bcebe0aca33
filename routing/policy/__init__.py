"""Which model a session gets. Pure: what is known goes in, a decision with its reasons comes out."""
