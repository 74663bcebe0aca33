"""Models: the embedded engine and its parts, detectors, and the files they are made of."""
