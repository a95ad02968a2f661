"""Logs of interactions with item texts: reading, filtering, splitting, checking."""
