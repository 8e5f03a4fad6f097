"""The API's description as pages and as Markdown."""
