"""HTTP in, actions out. One file per noun."""
