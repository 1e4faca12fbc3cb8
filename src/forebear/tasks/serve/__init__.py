"""A network as an HTTP service."""
