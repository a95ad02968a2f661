"""What condensed sequences, and what is trained from them, reveal of the users of a log."""
