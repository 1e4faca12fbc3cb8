"""torch files, read without executing them."""
