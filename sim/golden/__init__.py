"""The golden reference model: slow, obvious, from the specifications and not from the RTL."""
