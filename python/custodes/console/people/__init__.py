"""The pages and the API of one person: an actor or a subject."""
