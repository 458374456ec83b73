"""What the command `dropgpt` can do, a module each; `dropgpt.arguments` has what they take."""
