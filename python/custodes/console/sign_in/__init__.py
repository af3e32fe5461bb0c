"""Signing in: by password, or at an OpenID Connect provider."""
