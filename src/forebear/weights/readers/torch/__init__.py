"""Readers of torch files that do not execute anything from them."""
