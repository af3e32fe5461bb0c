"""The SQL database: its tables, how they change from version to version, and how it is opened."""

from custodes.database.connection import open_database

__all__ = ["open_database"]
