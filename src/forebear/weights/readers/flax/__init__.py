"""Reads Flax files of JAX, which are msgpack."""
