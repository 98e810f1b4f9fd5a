"""Alembic's entry: runs the revisions on the connection that `prime_hub.db.migrate` hands over."""

from __future__ import annotations

from alembic import context

from prime_hub.db.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
