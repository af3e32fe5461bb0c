"""ASGI middleware: rate limits, security headers, ETags and idempotency keys."""
