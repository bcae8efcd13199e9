"""Measurements. They print figures and judge nothing: machines are shared and noisy."""
