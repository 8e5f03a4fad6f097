"""receiptsvc: sends SMS through the Dynmark gateway; keeps, folds and explains every delivery receipt."""

__version__ = "0.1.0"  # the only place: pyproject.toml reads it here
