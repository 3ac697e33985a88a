"""Tests of the spaCy component."""
