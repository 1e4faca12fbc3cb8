"""Decodes image files to pixels, and preprocesses pixels to network inputs."""
