"""Two models, one question, a vote; and the rating that comes of it."""
