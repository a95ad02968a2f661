"""What is shown of a benchmark: tables and plots."""
