"""Training on the full log and on condensed sequences."""
