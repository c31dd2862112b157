"""Ansuini et al. (2019): its claims and published numbers, beside the numbers measured here."""
