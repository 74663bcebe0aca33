"""Moshi and PersonaPlex: full-duplex speech models, many conversations in one batch."""
