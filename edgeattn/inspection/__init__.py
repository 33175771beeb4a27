"""What a file holds, read in a sandbox."""
