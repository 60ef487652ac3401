"""What happens by itself: services, nodes, invoices. Takes no input; may be killed at any instant."""
