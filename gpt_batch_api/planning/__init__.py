"""Decisions, all pure: what goes into a batch, whether it may go out, what an answer leads to, what to do next."""
