"""What alembic runs: the migrations, on the connection that `routing.storage.migrate` gives it."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
