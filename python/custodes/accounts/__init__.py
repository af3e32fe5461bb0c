"""Accounts: who may use the console and the API, for what, and what they looked at."""

from custodes.accounts.roles import Permission, Role

__all__ = ["Permission", "Role"]
