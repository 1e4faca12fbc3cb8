"""Modules and functions that train faster on a CPU; `accelerate` puts the modules in."""
