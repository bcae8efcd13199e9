"""Output files: appended or atomically replaced, so that a kill at any moment leaves a file that can be finished."""
