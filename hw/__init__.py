"""The card's hardware description."""
