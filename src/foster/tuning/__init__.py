"""Search for options of model and recipe, on sequences or on a log, and a look at whether the log agrees."""
