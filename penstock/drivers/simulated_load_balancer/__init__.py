"""Load balancers in imagination: configs are kept, every member counts as well, no connection is ever taken."""
