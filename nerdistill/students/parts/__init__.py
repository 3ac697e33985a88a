"""Parts that students share."""
