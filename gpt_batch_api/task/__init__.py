"""What stands between the engine and a user's task: results, samples, output files, and the running of user code."""
