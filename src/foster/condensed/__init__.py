"""A handful of sequences that stands for a log: the artefact, contexts and labels of steps, and what students learn."""
