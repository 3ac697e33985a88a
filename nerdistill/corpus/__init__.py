"""Labelled and unlabelled text: reading, cleaning, splitting, batching."""
