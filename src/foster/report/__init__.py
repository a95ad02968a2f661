"""What is shown: the demo's table, the state of the installation."""
