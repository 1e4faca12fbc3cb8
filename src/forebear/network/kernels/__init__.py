"""Faster ways through a training step on a processor; `accelerate` turns them on."""
