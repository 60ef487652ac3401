"""Alembic migrations, applied in order by ``store.migrate``."""
