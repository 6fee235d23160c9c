"""Label tables, lists, archives and everything between a file on disk and a batch of tensors."""
