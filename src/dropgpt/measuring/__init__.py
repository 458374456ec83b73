"""Any causal language model, measured as the stage evaluate measures ours."""
