"""The API's description: the OpenAPI document, a page, and Markdown."""
