"""What happens by itself: services, nodes, invoices, retention. Takes no input; may be killed at any instant."""
