"""Networks made ready to answer: engines, their choice, and the graphs that other runtimes read."""
