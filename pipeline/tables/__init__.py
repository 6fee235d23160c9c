"""What `make table` and `make claims` are made of: runs, published numbers, verdicts, and how they are shown."""
