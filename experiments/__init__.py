"""Recorded runs that chapters quote, and what made the bundled weights and data."""
