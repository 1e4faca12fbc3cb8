"""Keras files: HDF5 and .keras archives, read without Keras."""
