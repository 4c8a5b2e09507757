"""The HTTP routes, one file per word."""
