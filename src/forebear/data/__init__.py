"""Files on disk to what a network takes in."""
