"""What is particular to an endpoint: how its payload is made ready and how its reply is read."""
