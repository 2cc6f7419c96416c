"""Benchmarks: cycles and area, which are exact, and times as ratios."""
