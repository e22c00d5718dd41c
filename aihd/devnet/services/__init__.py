"""Example services. A service is a folder with a service.toml; `main.py` here is the HTTP server they share."""
