"""Readers of TensorFlow checkpoints that do not need TensorFlow."""
