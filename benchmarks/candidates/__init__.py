"""What the acknowledgement is measured against: each module is an application for gunicorn, nothing of ours in it."""
