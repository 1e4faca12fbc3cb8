"""Arrays under the homes' names, and files that describe themselves."""
