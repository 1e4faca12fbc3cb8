"""Writes networks for other runtimes, and checks what was written in the runtime itself."""
