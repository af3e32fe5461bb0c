"""Who sends a request, which data they may see, and how people are named to them."""
