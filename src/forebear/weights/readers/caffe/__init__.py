"""Readers of Caffe's networks."""
