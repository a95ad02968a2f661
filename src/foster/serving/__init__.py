"""Use after training: lists for many users, other backends of search and inference, what is handed on."""
