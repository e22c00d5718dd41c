"""What aihd knows about nodo: its wire protocol, its gateway, its registry of services and its database."""
