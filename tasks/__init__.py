"""Seqio tasks and mixtures: registrations of the datasets, and no logic."""
