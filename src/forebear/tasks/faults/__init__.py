"""Likely label errors, near-duplicates and outliers of a data set, found with a network."""
