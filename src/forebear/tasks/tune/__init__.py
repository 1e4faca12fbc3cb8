"""A bounded search of a few fields of a recipe."""
