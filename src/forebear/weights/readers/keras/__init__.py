"""Readers of Keras files, HDF5 and .keras archives, that do not need Keras."""
