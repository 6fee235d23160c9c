"""Deployment: exported files, the runtimes that run them, and a speed sheet of exactly the network that was scored."""
