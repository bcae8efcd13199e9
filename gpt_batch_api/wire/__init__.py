"""All HTTP: one exchange at a time through the official client, and what can go wrong with it."""
