"""The System page, and the endpoints for Prometheus and for orchestrators."""
