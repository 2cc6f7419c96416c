"""The host: card driver, rings, feed, risk, order management, market making, journal, analytics."""
