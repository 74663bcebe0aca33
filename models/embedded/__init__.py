"""The embedded engine: small speech models on the CPU, in this process, and the cascade that joins them."""
