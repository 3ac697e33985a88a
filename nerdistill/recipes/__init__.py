"""Recipes: how a student learns, as lists of stages; one file each."""
