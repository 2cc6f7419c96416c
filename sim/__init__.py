"""Everything that is simulated: the golden reference model, cards and venues."""
