"""Readers of labelled images from a data spec KIND:PATH, one module per kind."""
