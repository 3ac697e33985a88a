"""Raw text to the arrays that models take; shared by training and serving."""
