"""Units that every wire, ring and register shares."""

PRICE_SCALE = 10_000
"""A price is an integer of 1/10,000 USD."""

BASIS_POINTS = 10_000
"""A ratio of 1 is 10,000 basis points."""

NS_PER_SECOND = 1_000_000_000
