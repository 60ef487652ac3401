"""What keeping the shape of gangs costs in occupancy: a simulated site of NVLink racks, filled and kept full."""
