"""Makes a folder again as its manifest says, and compares the two."""
