"""Queries too slow for a request: computed in the background, cached for the next request."""
