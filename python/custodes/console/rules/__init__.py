"""Rules: pages and API."""
