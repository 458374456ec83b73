"""The loop, its schedules, its state, and the checkpoint that holds it."""
