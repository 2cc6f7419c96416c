"""Simulated exchanges: a matching engine, replay of a recorded day, and generated order flow."""
