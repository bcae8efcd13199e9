"""What tokens cost: which prices hold for a model, and what a response at these prices comes to. No effects."""
