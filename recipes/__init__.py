"""How the things that the product ships as data were made."""
