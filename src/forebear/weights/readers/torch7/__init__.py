"""Readers of Torch7's networks, which are objects of Lua."""
