"""The worker: one process that holds many conversations on one engine, and the wire to it."""
