"""What the command `dropgpt` can do, a module each; `dropgpt.__main__` has their arguments."""
