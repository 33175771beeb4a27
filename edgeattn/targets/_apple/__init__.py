"""What the Mac and the iPhone have in common."""
