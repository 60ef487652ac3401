"""The embedded PostgreSQL: a support module, not a driver of services.

It starts and stops the PostgreSQL that comes as a wheel, on one data folder, reachable over one unix socket
by one system user. An operator who brings a PostgreSQL of their own never gets here.
"""

from penstock.drivers.embedded_postgres.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
