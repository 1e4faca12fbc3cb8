"""Run folders: what they hold, reading them, and showing them."""
