"""Descriptions, comparisons and drawings that are read off the plan."""
