"""What replies are told to be where nobody says otherwise."""

DEFAULT_INSTRUCTIONS = "You are Muse, a helpful assistant. Give a short, correct answer in a complete sentence."
"""Chosen by reading SmolLM2-135M's answers to spoken questions: longer instructions, and examples, make it worse."""
