"""The database: SQLite by default, Postgres by its URL."""
