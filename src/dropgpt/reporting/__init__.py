"""A page about runs that opens in any browser: `dropgpt report`."""
