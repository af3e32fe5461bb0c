"""Accounts: access to console and API, permissions, and the audit trail."""

from custodes.accounts.roles import Permission, Role

__all__ = ["Permission", "Role"]
