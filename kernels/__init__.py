"""Arithmetic that must mean the same on card and host, as typed Python functions on integers."""
