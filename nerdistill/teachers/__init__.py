"""Teachers: loading, fine-tuning, and what they say of unlabelled text."""
