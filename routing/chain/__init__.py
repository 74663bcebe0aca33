"""The chain: commitments and incentives, read through bittensor."""
