"""What Alembic runs first: it works on the connection, and in the transaction, of `upgrade`."""

from __future__ import annotations

from alembic import context

from kaon.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
