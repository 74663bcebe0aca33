"""Weights that nobody has to trust: pinned, bounded, checked before anything is loaded."""
