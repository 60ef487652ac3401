"""The machine we run on: what it is made of, read from the kernel and from NVIDIA's management library."""
