"""The gateway's side of the worker's wire: a worker, wherever it runs, as an engine."""
