"""Tagging with a finished student. Imports nothing that trains."""
