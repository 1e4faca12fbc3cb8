"""A writer of TensorFlow checkpoints that does not need TensorFlow."""
