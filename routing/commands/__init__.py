"""The commands of `python -m routing`."""
