"""The report of `xpnet doctor`: what this machine has, what does not work, and the line that fixes it."""
