"""receiptsvc: sends SMS through the Dynmark gateway; keeps, folds and explains every delivery receipt."""
