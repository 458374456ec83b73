"""What the computer does: files, hardware, interruption, progress, whose turn it is."""
