"""The API's views, one module a noun. A view declares scope, input and output, and calls the store."""
