"""The wire keeps its promises, against a small real server that misbehaves on demand."""
