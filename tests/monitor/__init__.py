"""What the monitor shows, word by word."""
