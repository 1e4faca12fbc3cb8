"""Writers of checkpoints in the formats of the original frameworks."""
