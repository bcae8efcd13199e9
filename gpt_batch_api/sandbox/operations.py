"""The operations of the API by their names in plans and in the log of calls: how they are asked for."""

from __future__ import annotations

# Method and path; the group in a path is the object that the call is about.
ROUTES = {
    "files.create": ("POST", r"/v1/files"),
    "files.list": ("GET", r"/v1/files"),
    "files.retrieve": ("GET", r"/v1/files/([^/]+)"),
    "files.content": ("GET", r"/v1/files/([^/]+)/content"),
    "files.delete": ("DELETE", r"/v1/files/([^/]+)"),
    "batches.create": ("POST", r"/v1/batches"),
    "batches.list": ("GET", r"/v1/batches"),
    "batches.retrieve": ("GET", r"/v1/batches/([^/]+)"),
    "batches.cancel": ("POST", r"/v1/batches/([^/]+)/cancel"),
    "chat.create": ("POST", r"/v1/chat/completions"),
    "responses.create": ("POST", r"/v1/responses"),
    "embeddings.create": ("POST", r"/v1/embeddings"),
    "models.list": ("GET", r"/v1/models"),
    "models.retrieve": ("GET", r"/v1/models/(.+)"),
}
OPERATIONS = tuple(ROUTES)
ANSWERING = ("chat.create", "responses.create", "embeddings.create")
"""What a plan calls `direct`."""
