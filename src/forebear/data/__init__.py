"""Loads data sets from disk and turns them into batches of tensors."""
