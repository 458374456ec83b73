"""The GPT, its four dropout sites, its loss, and the folder that it is saved to."""
