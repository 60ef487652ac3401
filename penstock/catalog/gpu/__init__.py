"""GPU as a service: whole accelerators or slices of them."""
