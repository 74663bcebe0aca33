"""The HTTP side: health, metrics, models, the page."""
