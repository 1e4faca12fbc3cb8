"""TensorFlow checkpoints, written without TensorFlow."""
