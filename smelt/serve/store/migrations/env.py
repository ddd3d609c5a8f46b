"""Run the migrations on the connection that alembic was handed; run by alembic, never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.core.extras import need

if TYPE_CHECKING:
    from alembic import context
else:
    context = need("alembic.context", extra="serve")

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
