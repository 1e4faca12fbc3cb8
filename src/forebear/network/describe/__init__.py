"""Descriptions, comparisons and drawings of networks, computed from their plans."""
