"""Documents -> token tensor -> batches."""
