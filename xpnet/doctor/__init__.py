"""What this machine has, what does not work, and the line that fixes it: for people, and for `xpnet doctor --json`."""
