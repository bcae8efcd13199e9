"""Tables: rows read one by one from files, frames and iterables, and written as one file. Nothing is held whole."""
