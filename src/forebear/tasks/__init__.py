"""What one does with a network: train, evaluate, predict, benchmark."""
