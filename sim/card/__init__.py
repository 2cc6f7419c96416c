"""Simulated cards behind the same interface as real ones."""
