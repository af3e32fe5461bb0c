"""The SQL database: tables, migrations, and connections."""

from custodes.database.connection import open_database

__all__ = ["open_database"]
