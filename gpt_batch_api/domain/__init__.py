"""Words that every room uses: requests, outcomes, states, settings, events, errors, time. No effects."""
