"""The parts of benchmarks/small_folders.py: its data sets, its contenders and its table."""
