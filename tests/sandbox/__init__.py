"""Tests of the sandbox: over real HTTP, with the official client."""
