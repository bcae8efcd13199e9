"""A job's life in named steps, each in four beats: look, decide, act, record."""
