"""The workers: the Celery application, its three tasks, the node kinds and the sandbox."""
