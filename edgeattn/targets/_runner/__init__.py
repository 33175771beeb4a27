"""What runs on the other side of a target, and what speaks with it."""
