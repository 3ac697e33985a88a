"""From trained weights to a bundle and an installable package."""
