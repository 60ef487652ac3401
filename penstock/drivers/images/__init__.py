"""Where the control plane keeps the bytes of images."""
