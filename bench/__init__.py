"""One file for each figure that the README quotes; each prints its figure and its peer's, measured in the same run."""
