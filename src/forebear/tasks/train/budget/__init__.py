"""Training on a budget of time: what is timed, what is planned, what is kept back."""
