"""Training: recipe, schedule, optimizer, loop, display and run folder."""
