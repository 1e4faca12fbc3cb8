"""Modules and functions that train faster on a CPU. `accelerate` installs the modules."""
