"""What the service is compared with. Except `one_by_one`, each module is an application for gunicorn."""
