"""What dropout does in GPT pretraining."""
