"""Scripts of the house: what the Makefile calls and the product does not need."""
