"""KIND:PATH to labelled images, one module a kind."""
