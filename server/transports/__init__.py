"""The wires that a conversation can come over."""
