"""Speed and memory, beside those of what a user would pick instead: `make bench`."""
